"""A sound that metrics look at, and its copies at the rates they need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tts_train.errors import DataError

Floats: TypeAlias = "NDArray[np.float32]"

_COPIES = 64
"""Resampled copies that are kept: several metrics ask for the same one, of a take, its reference and its voice."""


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono sound; two sounds are equal only if they are one object."""

    samples: Floats
    """(time,), full scale is 1."""
    sample_rate: int
    """In Hz."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def at(self, sample_rate: int) -> Floats:
        """Return the samples at another rate, (time,); callers must not write into them."""
        return self.samples if sample_rate == self.sample_rate else _resampled(self, sample_rate)


def read_sound(path: Path) -> Sound:
    """Read an audio file; several channels are averaged.

    Raises:
        DataError: if it cannot be read or is empty.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path} cannot be read as sound: {error}.") from error
    if not len(samples):
        raise DataError(f"{path} holds no sound.")
    return Sound(samples.mean(axis=1), rate)


@lru_cache(maxsize=_COPIES)
def _resampled(sound: Sound, sample_rate: int) -> Floats:
    copy: Floats = soxr.resample(sound.samples, sound.sample_rate, sample_rate, quality="HQ").astype(np.float32)
    return copy
