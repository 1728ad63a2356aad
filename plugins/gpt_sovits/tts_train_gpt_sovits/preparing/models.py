"""Which networks a preparation or a voice uses: the released ones, those of upstream's folder, or small seeded ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.released.bases import RELEASED, FileKind, FolderKind, place_in_models

TINY = "tiny"


@dataclass(frozen=True)
class Sources:
    """Where the networks of preparation come from: a folder, a file, a hub name, or ``tiny``."""

    hubert: str
    sovits: str
    bert: str
    speaker: str


def find_sources(
    models: str,
    version: str,
    *,
    hubert: str | None = None,
    sovits: str | None = None,
    bert: str | None = None,
    speaker: str | None = None,
) -> Sources:
    """Return where each network comes from; what is named by itself wins over ``models``.

    Args:
        models: ``released`` (downloaded when they are needed), ``tiny``, or upstream's folder ``pretrained_models``.
        version: Version whose SoVITS base makes the semantic tokens.
        hubert: Folder or hub name of the network of the speech features.
        sovits: SoVITS file.
        bert: Folder or hub name of the network of the text features.
        speaker: File of the speaker network.

    Raises:
        ConfigError: if ``models`` is none of these, or lacks a network that is not given.
    """
    return Sources(
        hubert=hubert or find_model(models, "hubert", version),
        sovits=sovits or find_model(models, "s2G", version),
        bert=bert or find_model(models, "bert", version),
        speaker=speaker or find_model(models, "speaker", version),
    )


def find_model(models: str, kind: FileKind | FolderKind, version: str) -> str:
    """Return the source of one network; it is looked at no further until it is loaded."""
    if models == TINY:
        return TINY
    if models == RELEASED:
        return version if kind in ("s1", "s2G", "s2D") else RELEASED
    folder = Path(models).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"--models {models} is no folder. Give upstream's pretrained_models, {RELEASED} (downloaded when needed), "
            f"or {TINY}."
        )
    return str(folder / place_in_models(kind, version))
