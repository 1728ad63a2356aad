"""Which backend and stage made a folder of ours: a run, a checkpoint, or an export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tts_train.disk.pointer import followed
from tts_train.errors import DataError

FILE_NAME = "tts_train.json"
"""Written beside the files of an export, so that ``synth`` and later tools know what it is."""
CONFIG_FILE = "config.yaml"
"""A run's resolved configuration."""
RUN_FILE = "run.json"
"""What a run is and how it ended."""
_CHECKPOINT_FILE = "state.json"


@dataclass(frozen=True)
class Provenance:
    """What made an artifact, in plain types."""

    backend: str
    stage: str
    format: str | None = None
    """Export format; None for runs and checkpoints."""
    step: int | None = None
    """Optimizer steps taken when it was made."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the backend needs to know again when it opens an export, in plain types."""

    def write(self, folder: Path) -> None:
        """Write the card into an exported folder."""
        (folder / FILE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_provenance(path: Path) -> Provenance:
    """Tell what made ``path``: a run directory, a checkpoint, an exported folder or a file in one.

    Raises:
        DataError: if there is no such path, or nothing of ours says where it comes from.
    """
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Give a run directory, a checkpoint or an exported model.")
    path = followed(path)
    folder = path if path.is_dir() else path.parent
    # An export may lie in a run directory: its own card comes first.
    for name in (FILE_NAME, RUN_FILE, _CHECKPOINT_FILE):
        if (folder / name).is_file():
            return _from_mapping(_read(folder / name), folder / name)
    raise DataError(
        f"{path} does not say which backend it belongs to (no {FILE_NAME}, {RUN_FILE} or {_CHECKPOINT_FILE} in it). "
        "If another tool made it, add --backend B and --stage S."
    )


def export_card(folder: Path) -> Provenance | None:
    """Return what made an exported folder; None if it is none of ours."""
    return read_provenance(folder) if (folder / FILE_NAME).is_file() else None


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        card: Mapping[str, Any] = content["checkpoint"]["run_card"] if file.name == _CHECKPOINT_FILE else content
        if not isinstance(card, Mapping):
            raise TypeError(f"{type(card).__name__} in place of an object")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({type(error).__name__}). Add --backend B and --stage S.") from error
    return card


def _from_mapping(content: Mapping[str, Any], source: Path) -> Provenance:
    if not isinstance(content.get("backend"), str) or not isinstance(content.get("stage"), str):
        raise DataError(f"{source} names no backend and stage. Add --backend B and --stage S.")
    facts = content.get("facts")
    # Cards of runs and checkpoints have no facts; only those of exports do.
    known = dict(facts) if isinstance(facts, Mapping) else {}
    return Provenance(content["backend"], content["stage"], content.get("format"), content.get("step"), known)
