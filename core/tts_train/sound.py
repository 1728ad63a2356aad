"""Sounds, their copies at the rates that metrics need, and the bands of a mel scale; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from numpy.typing import NDArray

from tts_train.errors import DataError

Floats: TypeAlias = "NDArray[np.float32]"

_COPIES = 64
"""Resampled copies that are kept: several metrics ask for the same one, of a take, its reference and its voice."""


# eq=False: caches look sounds up by identity, without comparing their samples.
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
        # Metrics each want their own rate, and resampling takes longer than most of them.
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


def whole_numbers(samples: Floats, bits: Literal[16, 24]) -> NDArray[np.int16] | NDArray[np.int32]:
    """Return samples as libsndfile writes them without a change: 24 bits are the upper ones of 32.

    Rounded here, since it multiplies floats by one step less when it writes than it divides by when it reads. What lies
    beyond full scale is cut off.
    """
    top = 1 << (bits - 1)
    whole = np.clip(np.rint(samples.astype(np.float64) * top), -top, top - 1)
    return whole.astype(np.int16) if bits == 16 else whole.astype(np.int32) << 8


def forget_copies() -> None:
    """Let go of the resampled copies, and of the sounds that they are of: for whoever is done with a sound at once."""
    _resampled.cache_clear()


Floats64 = npt.NDArray[np.float64]
Scale: TypeAlias = Literal["htk", "slaney"]
"""``htk``: 2595 log10(1 + f / 700); ``slaney``: linear to 1,000 Hz, logarithmic above (Auditory Toolbox, 1998)."""

_LINEAR_HZ = 200.0 / 3.0  # Hz of a mel of Slaney's below the knee
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ
# Slaney has 27 steps from 1,000 to 6,400 Hz.
_LOG_STEP = np.log(6.4) / 27.0


def mel_edges(sample_rate: int, n_mels: int, scale: Scale) -> Floats64:
    """Return the ``[n_mels + 2]`` edges of bands from 0 Hz to half the sample rate, in Hz; inner ones are centres.

    Args:
        sample_rate: Samples a second.
        n_mels: Number of bands, which overlap by half.
        scale: Where the bands are even.
    """
    top = np.float64(sample_rate / 2)
    if scale == "htk":
        mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + top / 700.0), n_mels + 2)
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    highest = top / _LINEAR_HZ if top < _KNEE_HZ else _KNEE_MEL + np.log(top / _KNEE_HZ) / _LOG_STEP
    mels = np.linspace(0.0, highest, n_mels + 2)
    above = _KNEE_HZ * np.exp(np.maximum(mels - _KNEE_MEL, 0.0) * _LOG_STEP)
    return np.where(mels < _KNEE_MEL, mels * _LINEAR_HZ, above)


def mel_triangles(
    sample_rate: int,
    n_mels: int,
    scale: Scale,
    frequencies: Floats64,
    *,
    least_hz: float = 0.0,
    of_area: bool = False,
) -> Floats64:
    """Return overlapping triangles ``[n_mels, bins]`` from 0 Hz to half the sample rate.

    Args:
        sample_rate: Samples a second.
        n_mels: Number of bands.
        scale: Where the bands are even.
        frequencies: ``[bins]`` of the spectrum, in Hz.
        least_hz: Width to which a narrower side of a band is widened, so that no band is between two bins.
        of_area: Give each band the area 2 / its width in Hz, as librosa does, in place of a peak of 1.
    """
    edges = mel_edges(sample_rate, n_mels, scale)
    bands = _triangles(edges, frequencies, least_hz)
    return bands * 2.0 / (edges[2:, None] - edges[:-2, None]) if of_area else bands


def _triangles(edges: Floats64, frequencies: Floats64, least_hz: float) -> Floats64:
    centre = edges[1:-1, None]
    below = np.maximum(centre - edges[:-2, None], least_hz)
    above = np.maximum(edges[2:, None] - centre, least_hz)
    rising, falling = 1.0 - (centre - frequencies) / below, 1.0 - (frequencies - centre) / above
    return np.maximum(0.0, np.minimum(rising, falling))
