"""What changed between the configuration a run was started with and the one it continues with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_train.errors import ConfigError

DEFAULT_IDENTITY = (
    "backend",
    "stage",
    "model.init_from",
    "model.tiny",
    "model.optimizer.name",
    "model.optimizer.decay",
    "data.path",
)
"""Keys that no run may change: with them it would be another run, or the states of its optimiser would not fit. A stage
need not have them; one that does means by them what it starts from, how it is optimised and what prepare wrote. What
else makes a run another, a stage names itself (``Stage.identity``)."""

PRECISION = "trainer.precision"
_OTHER_WEIGHTS = ("bf16-true", "16-true", "64", "64-true")
"""Precisions under which weights are not float32, and so would be rounded or mixed up on continuing."""


@dataclass(frozen=True)
class Change:
    """One key whose value differs."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_spelt(self.old)} -> {_spelt(self.new)}"


class _Absent:
    def __repr__(self) -> str:
        return "(not set)"


ABSENT = _Absent()
"""The value of a key that is not there."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """List the keys, dotted and sorted, whose values differ; paths and their spelling as text are the same."""
    before, after = _flat(old), _flat(new)
    keys = sorted({*before, *after})
    pairs = [(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    return [Change(key, a, b) for key, a, b in pairs if _comparable(a) != _comparable(b)]


def refuse_identity_changes(
    changes: Sequence[Change], identity: Sequence[str], run_dir: Path, *, starts_from_runs: bool = False
) -> None:
    """Refuse to continue a run as another one.

    Args:
        changes: What differs.
        identity: Keys that may not differ, nor what is below them.
        run_dir: The run's directory.
        starts_from_runs: Whether the stage takes a run for ``--model.init_from``.

    Raises:
        ConfigError: with every such key, its old and new value, and what to type.
    """
    # All of them at once: a user who puts one back should not meet the next one after that.
    refused = [change for change in changes if any(_covers(key, change.key) for key in identity) or _retyped(change)]
    if refused:
        listed = "\n".join(f"  --{change}" for change in refused)
        from_here = (
            f"\nWith --model.init_from {run_dir} besides, a new run of the same stage begins from this one's weights."
        )
        raise ConfigError(
            f"{run_dir} holds a run that was started with other settings:\n{listed}\n"
            f"Set them back to continue it, or begin a new run with another directory: --run_dir {run_dir}-2"
            f"{from_here if starts_from_runs else ''}"
        )


def _retyped(change: Change) -> bool:
    kinds = [str(value) if str(value) in _OTHER_WEIGHTS else "" for value in (change.old, change.new)]
    return change.key == PRECISION and kinds[0] != kinds[1]


def _covers(key: str, other: str) -> bool:
    # With the dot: model.lora covers model.lora.rank, and not an option called model.lora_rank.
    return other == key or other.startswith(f"{key}.")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        # An empty section counts as a value: without a key in it, it would not be compared at all.
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _comparable(value: Any) -> Any:  # noqa: ANN401 - configurations hold anything plain
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    # Configurations that were read back have text where those of the command line have paths.
    return str(value) if isinstance(value, Path) else value


def _spelt(value: object) -> str:
    return repr(str(value)) if isinstance(value, (str, Path)) else repr(value)
