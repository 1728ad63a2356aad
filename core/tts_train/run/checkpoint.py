"""Opening a checkpoint to use its weights: what it is, what is in it, and whether that fits a network."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from tts_train.checkpoints.folder_io import MANIFEST, load_state, verify
from tts_train.disk.pointer import followed
from tts_train.disk.provenance import Provenance
from tts_train.errors import ConfigError, DataError
from tts_train.run.directory import RunDirectory
from tts_train.run.places import located, project_of, reachable

CARD_KEY = "run_card"
"""Where the run card rides in Lightning's checkpoint."""

_DISTRIBUTIONS = ("tts-train", "torch", "lightning", "transformers", "peft", "bitsandbytes", "safetensors")


def installed_versions() -> dict[str, str]:
    """Return the versions of what a run's numbers depend on, as far as it is installed."""
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """What a run says about itself in each of its checkpoints, in plain types."""

    backend: str
    """The backend's name, by which its plugin is found; never a class name."""
    stage: str
    """The stage's name."""
    config: Mapping[str, Any]
    """The resolved configuration, as in ``config.yaml``."""
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    """Versions of the packages that the run used."""
    folder: str | None = None
    """Folder that the command ran in, to which relative paths in ``config`` belong; None in cards of old."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What later steps must know of the data, as ``StageData.remember`` says it."""
    project: Path | None = field(default=None, compare=False)
    """Folder of the run's project, or of a copy of it, as it was found when the card was read; not written."""

    def options(self, section: str, *paths: str, names: Collection[str] = ()) -> dict[str, Any]:
        """Return the values of a section, ``model`` or ``data``.

        Args:
            section: Its name.
            paths: Values that are paths; they are given as they can be used from here.
            names: Words that are no paths.
        """
        found = self.config.get(section) or {}
        # Where a class is named, its options lie below init_args.
        values = dict(found.get("init_args", found))
        return values | {
            name: located(values[name], self.folder, names=names, project=self.project)
            for name in paths
            if isinstance(values.get(name), str)
        }

    @property
    def prepared(self) -> dict[str, Any]:
        """What is known of the prepared set, its paths as they are reached from here; empty in cards of old."""
        return {**self.data, "settings": reachable(self.data.get("settings", {}))} if self.data else {}

    def knowing(self, remembered: Mapping[str, object]) -> RunCard:
        """Return the card with what later steps must know of the data."""
        return replace(self, data=dict(remembered))

    def as_dict(self) -> dict[str, Any]:
        """Return the card in plain types."""
        card = asdict(self)
        del card["project"]
        return card

    @classmethod
    def from_dict(cls, card: object, *, source: Path) -> RunCard:
        """Read a card that :meth:`as_dict` wrote.

        Raises:
            DataError: naming ``source``, if it is none.
        """
        shape = {"backend": str, "stage": str, "config": dict, "versions": dict}
        if not isinstance(card, dict) or any(not isinstance(card.get(key), kind) for key, kind in shape.items()):
            raise DataError(f"{source} has no run card, so it does not say which backend and stage it belongs to.")
        more = {"folder": str, "data": dict}
        given = {key: card[key] for key, kind in more.items() if isinstance(card.get(key), kind)}
        project = project_of(card["config"].get("run_dir"), source)
        return cls(**{key: card[key] for key in shape}, **given, project=project)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was checked against its manifest."""

    path: Path
    """Its directory."""
    step: int
    """Optimiser steps taken when it was written."""
    card: RunCard
    """Which backend, stage and configuration it belongs to."""

    def weights(self) -> dict[str, Tensor]:
        """Read the module's ``state_dict`` onto the CPU, data types as trained; tied weights share memory."""
        return dict(load_state(self.path, "state_dict")["state_dict"])

    def provenance(self, form: str, facts: Mapping[str, Any] | None = None) -> Provenance:
        """Return the card of an export.

        Args:
            form: the format's name.
            facts: what the backend needs to know again when it opens the export, in plain types.
        """
        return Provenance(self.card.backend, self.card.stage, form, self.step, facts or {})

    def state(self, *keys: str) -> dict[str, Any]:
        """Read Lightning's checkpoint dictionary, or only some of its top-level keys."""
        return load_state(self.path, *keys)


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a run directory (its newest valid checkpoint), ``checkpoints/last`` or ``best``, or a checkpoint directory.

    Nothing is changed on the disk.

    Raises:
        DataError: naming what was looked for, if there is no checkpoint or it is damaged.
    """
    # Found once: last may point elsewhere by the time that something is read.
    directory = _find(Path(path))
    manifest = verify(directory)
    card = RunCard.from_dict(load_state(directory, CARD_KEY).get(CARD_KEY), source=directory)
    return Checkpoint(path=directory, step=manifest["step"], card=card)


def is_run(path: Path) -> bool:
    """Tell whether a path is a run directory or one of its checkpoints."""
    return (followed(path) / MANIFEST).is_file() or (path / "checkpoints").is_dir()


def check_names(expected: set[str], given: Mapping[str, Any], *, decided_by: Sequence[str] = ()) -> None:
    """Refuse weights whose names are not those ``expected``.

    Args:
        expected: Names of the network's weights.
        given: Weights by name.
        decided_by: Options that decide which names there are, as in ``model.lora``.

    Raises:
        ConfigError: naming how many are missing or too many, and the first.
    """
    missing, foreign = sorted(expected - set(given)), sorted(set(given) - expected)
    faults = [f"{len(n)} {what} (the first is {n[0]})" for what, n in (("missing", missing), ("unknown", foreign)) if n]
    if faults:
        raise ConfigError(
            f"The checkpoint does not fit this run's network: {' and '.join(faults)}. Continue with the "
            f"{_listed(decided_by)} that it was made with."
        )


def check_sizes(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, decided_by: Sequence[str] = ()) -> None:
    """Refuse weights of other sizes than the network's of the same names.

    Raises:
        ConfigError: naming how many differ, and the first.
    """
    # torch would list every one of them in a RuntimeError, which reads as a fault of ours.
    differ = [name for name, value in sorted(given.items()) if name in expected and value.shape != expected[name].shape]
    if differ:
        first = differ[0]
        raise ConfigError(
            f"The checkpoint does not fit this run's network: {len(differ)} of another size (the first is {first}, "
            f"{list(given[first].shape)} in the checkpoint and {list(expected[first].shape)} here). Continue with the "
            f"{_listed(decided_by)} that it was made with; if they are the same, a network that tts-train makes itself "
            "had other sizes in the version that wrote it, and the run must be made anew."
        )


def _listed(decided_by: Sequence[str]) -> str:
    options = [f"--{option}" for option in decided_by]
    return f"{', '.join(options[:-1])} and {options[-1]}" if len(options) > 1 else "".join(options) or "settings"


def _find(path: Path) -> Path:
    if (followed(path) / MANIFEST).exists():
        return followed(path).resolve()
    if (path / "checkpoints").is_dir():
        # Without the lock nothing may be set aside: a run may be writing here.
        newest = RunDirectory(path).newest_valid(repair=False)
        if newest is None:
            raise DataError(f"{path} holds no valid checkpoint: none in {path / 'checkpoints'}/step-*/ can be used.")
        return newest.resolve()
    if path.is_dir():
        raise DataError(
            f"{path} is neither a run directory (no checkpoints/ in it) nor a checkpoint (no {MANIFEST} in it). "
            "Give the --run_dir of a run, or one of its checkpoints/step-*/."
        )
    raise DataError(f"{path} does not exist. Give the --run_dir of a run, or one of its checkpoints/step-*/.")
