"""Writes sound files, in the format that their name says."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tts_train.errors import ConfigError, DiskError

if TYPE_CHECKING:
    from torch import Tensor

Samples: TypeAlias = "Tensor"
"""Samples (N,), full scale 1."""


@dataclass(frozen=True)
class _Format:
    """What libsndfile calls it."""

    container: str
    coding: str
    sample_rate: int | None = None
    """The only rate that it is written at; None takes any."""


_FORMATS = {
    ".wav": _Format("WAV", "PCM_16"),
    ".flac": _Format("FLAC", "PCM_16"),
    ".mp3": _Format("MP3", "MPEG_LAYER_III"),
    ".ogg": _Format("OGG", "VORBIS"),
    ".opus": _Format("OGG", "OPUS", 48_000),
}


def check_sound_name(path: Path, option: str = "--out") -> None:
    """Refuse the name of a sound file that cannot be written, before anything is computed for it.

    Raises:
        ConfigError: if its ending says no format that can be written, or it cannot lie there.
    """
    import soundfile

    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder. Give the name of a file.")
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(_FORMATS)
        raise ConfigError(
            f"{option} {path}: its ending says which format is written, and must be one of {known}. For example: "
            f"{option} {path.with_suffix('.wav')}."
        )
    if form.coding not in soundfile.available_subtypes(form.container):
        raise ConfigError(
            f"{option} {path}: the libsndfile {soundfile.__libsndfile_version__} that is installed here does not write "
            f"{form.coding}. Give {option} {path.with_suffix('.wav')}."
        )
    # Asked before anything is spoken, which may take minutes.
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise ConfigError(f"{option} {path}: nothing can be written into {place}. Choose another {option}.")


def write_sound(path: Path, sound: Tensor, *, sample_rate: int) -> None:
    """Write 1-D float sound as 16-bit mono; what is beyond full scale is cut there, never wrapped around.

    Args:
        path: The file; its ending says the format: .wav, .flac, .mp3, .ogg (Vorbis) or .opus (at 48 kHz).
        sound: Samples (N,), full scale 1.
        sample_rate: Samples a second.

    Raises:
        ConfigError: see `check_sound_name`.
        DiskError: if it cannot be written.
    """
    import soundfile
    import soxr

    check_sound_name(path)
    form = _FORMATS[path.suffix.lower()]
    # Cut, not scaled: one loud click would make the rest quiet. Whole numbers would wrap around.
    samples = (sound.clamp(-1, 1) * 32767).round().short().numpy()
    if form.sample_rate not in (None, sample_rate):
        samples, sample_rate = soxr.resample(samples, sample_rate, form.sample_rate), form.sample_rate
    # In memory first: where a disk is full libsndfile says "System error", and the system says why.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate, subtype=form.coding, format=form.container)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.getbuffer())
    except OSError as error:
        raise DiskError(f"--out {path} cannot be written: {error.strerror}.") from error
