"""What is done to decoded samples: channels to one, offset out, and levels measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_train.corpus.audio.containers import AudioRejected, Limits

ONE_SIDED = 0.01
"""A channel below this share (-40 dB) of the other's RMS is silent."""
ANTI_PHASE = 0.25
"""Channels whose mean has less than this share of their RMS cancel each other out."""
DC = 0.01
"""Offset, of full scale, that is worth taking out."""
OVER = 8.0
"""Beyond this many times full scale, samples are no sound."""
CLIPPED_FEW = 0.01
CLIPPED_FINE = 0.05
CLIPPED_COARSE = 0.3
"""Shares of flat samples at the peak: a warning; too many; too many in 8-bit formats, whose steps are flat anyway."""

# One step of 16 bits, scaled by the peak: neighbours that differ by less count as equal.
_FLAT = 2.0**-15
_FRAME = 1024


@dataclass(frozen=True, slots=True)
class Levels:
    """How loud a recording is; full scale is 1."""

    peak: float
    rms: float
    floor: float
    """RMS of the quietest tenth of 1024-sample frames: the noise between the words."""
    clipped: float
    """Share of samples, 0 to 1, that are flat at the peak."""


def to_mono(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Turn (time, channels) with one or two channels into (time,), and say how.

    Raises:
        AudioRejected: ``non_finite`` or ``too_many_channels``.
    """
    if not np.isfinite(samples).all():
        raise AudioRejected("non_finite", f"{int(np.sum(~np.isfinite(samples)))} samples are NaN or infinite")
    channels = samples.shape[1]
    if channels == 1:
        return np.ascontiguousarray(samples[:, 0]), ()
    if channels > 2:
        raise AudioRejected("too_many_channels", f"{channels} channels")
    sums = ChannelSums()
    sums.add(samples)
    return sums.mix(samples), sums.warnings()


class ChannelSums:
    """Decides how two channels become one, by all of the blocks that were added."""

    def __init__(self) -> None:
        self._left = self._right = self._mean = 0.0
        self._two = False

    def add(self, samples: NDArray[np.float32]) -> None:
        """Count (time, channels) of one or two channels in."""
        if samples.shape[1] == 2:
            self._two = True
            self._left += _energy(samples[:, 0])
            self._right += _energy(samples[:, 1])
            self._mean += _energy(samples.mean(axis=1))

    def mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (time,) of (time, channels)."""
        if samples.shape[1] == 1 or "anti_phase" in self.warnings():
            return np.ascontiguousarray(samples[:, 0])
        if "one_sided" in self.warnings():
            return np.ascontiguousarray(samples[:, int(self._right > self._left)])
        return np.asarray(samples.mean(axis=1), np.float32)

    def warnings(self) -> tuple[str, ...]:
        """Return how it is done, by a name from :data:`tts_train.corpus.reasons.WARNINGS`; nothing for one channel."""
        left, right = np.sqrt(self._left), np.sqrt(self._right)
        if not self._two:
            return ()
        # The mean with a silent channel would be 6 dB too quiet, and noisier.
        if min(left, right) < ONE_SIDED * max(left, right):
            return ("one_sided",)
        # One channel was wired the wrong way round: their mean is next to nothing.
        if np.sqrt(self._mean) < ANTI_PHASE * min(left, right):
            return ("anti_phase",)
        return ("stereo",)


def check_levels(
    samples: NDArray[np.float32], *, coarse: bool, limits: Limits
) -> tuple[NDArray[np.float32], Levels, tuple[str, ...]]:
    """Take out an offset, measure the levels, and return samples, levels and warnings.

    Args:
        samples: (time,), finite.
        coarse: whether the file has 8-bit steps.
        limits: gives the level below which a recording is silent.

    Raises:
        AudioRejected: ``silent`` or ``clipped``.
    """
    warnings: list[str] = []
    # Clipping is flat at the peak that the file has, before an offset is taken out.
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > OVER:
        raise AudioRejected("clipped", f"samples reach {peak:.3g} times full scale")
    clipped = _flat_share(samples, peak)
    # float64: a mean over a minute in float32 is off by more than what is looked for.
    offset = float(samples.mean(dtype=np.float64))
    if abs(offset) > DC:
        samples = samples - np.float32(offset)
        warnings.append("dc")
    loudest = float(np.abs(samples).max(initial=0.0))
    if loudest < limits.silent_peak:
        raise AudioRejected("silent", f"peak {loudest:.2g} of full scale")
    if clipped > (CLIPPED_COARSE if coarse else CLIPPED_FINE):
        raise AudioRejected("clipped", f"{clipped:.0%} of the samples are flat at the peak")
    warnings += ["clipped"] if clipped > CLIPPED_FEW and not coarse else []
    warnings += ["over_full_scale"] if loudest > 1 else []
    return samples, Levels(loudest, _rms(samples), _floor(samples), clipped), tuple(warnings)


def _energy(samples: NDArray[np.float32]) -> float:
    return float(np.sum(np.square(samples, dtype=np.float64)))


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def _flat_share(samples: NDArray[np.float32], peak: float) -> float:
    """Share of samples at the peak that equal a neighbour; quiet recordings are not looked at, their steps are flat."""
    # Clipping happens near full scale; lower, equal neighbours are the steps of few bits.
    if peak < 0.25 or len(samples) < 2:
        return 0.0
    at_peak = np.abs(samples) >= 0.98 * peak
    flat = (np.abs(np.diff(samples)) < _FLAT * peak) & at_peak[1:] & at_peak[:-1]
    return float(np.count_nonzero(flat)) / len(samples)


def _floor(samples: NDArray[np.float32]) -> float:
    count = len(samples) // _FRAME
    if not count:
        return _rms(samples)
    power = np.square(samples[: count * _FRAME].reshape(count, _FRAME)).mean(axis=1)
    return float(np.sqrt(np.percentile(power, 10)))
