"""Where an exported file goes, and by which name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tts_train.contract import Checkpoint, ConfigError, Provenance
from tts_train.disk import FILE_NAME


@dataclass(frozen=True, kw_only=True)
class Target:
    """One file of an export: named by the user, or by us in a folder that the user named."""

    path: Path
    folder: Path | None
    """The folder of which the export may say what it is; None where the user named the file."""

    def sign(self, checkpoint: Checkpoint, form: str) -> None:
        """Say beside the file what made it, so that ``synth`` knows it."""
        if self.folder is not None:
            card = checkpoint.card
            Provenance(card.backend, card.stage, form, checkpoint.step).write(self.folder)


def find_target(out: Path, name: str) -> Target:
    """Return where the file ``name`` goes: ``out`` itself if it has the same suffix, else into the folder ``out``.

    A folder with files of other tools, such as upstream's ``SoVITS_weights_v2``, gets the file and nothing else.

    Raises:
        ConfigError: if ``out`` is a file of another kind.
    """
    if out.suffix == Path(name).suffix:
        return Target(path=out, folder=None)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Give a folder, or a name that ends in {Path(name).suffix}.")
    return Target(path=out / name, folder=out if _may_sign(out) else None)


def voice_name(source: Path) -> str:
    """Return the name of a voice: that of its run directory."""
    path = source.resolve()
    return path.parent.parent.name if path.parent.name == "checkpoints" else path.name


def _may_sign(folder: Path) -> bool:
    if not folder.is_dir() or not any(folder.iterdir()):
        return True
    try:
        return isinstance(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
