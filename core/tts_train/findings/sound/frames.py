"""Short frames of a sound: how loud they are, and which of them hold the voice."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tts_train.sound import Floats, Floats64

HOP_S = 0.01
SPAN_S = 0.025
FLOOR_DB = -100.0
"""What digital silence counts as, since its logarithm is not finite."""
RANGE_DB = 35.0
"""A frame that is further below the loudest ones holds no voice: consonants lie some 30 dB below vowels."""
ABOVE_NOISE_DB = 6.0
"""A frame of voice is at least this far above the noise."""


def decibels(samples: Floats, rate: int) -> Floats64:
    """Return the level of frames of 25 ms, 10 ms apart, in dBFS: ``[frames]``; a shorter sound is one frame."""
    span, hop = round(SPAN_S * rate), max(1, round(HOP_S * rate))
    if len(samples) < span:
        samples = np.pad(samples, (0, span - len(samples)))
    # Sums of squares up to each sample: a window is one subtraction, however long it is.
    total = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - span + 1, hop)
    power = np.maximum((total[starts + span] - total[starts]) / span, 10 ** (FLOOR_DB / 10))
    return np.asarray(10 * np.log10(power))


def loud(levels: Floats64) -> float:
    """Return the level of the voice's loud frames: the 95th percentile, which no single click decides."""
    return float(np.percentile(levels, 95))


def quiet(levels: Floats64) -> float:
    """Return the level of the noise between the words: the mean power of the quietest tenth of the frames."""
    count = max(1, len(levels) // 10)
    lowest = np.partition(levels, count - 1)[:count]
    return float(10 * np.log10(np.mean(10 ** (lowest / 10))))


def voiced(levels: Floats64) -> NDArray[np.bool_]:
    """Return which frames hold the voice: by level alone, so any loud sound counts."""
    limit = max(loud(levels) - RANGE_DB, min(quiet(levels) + ABOVE_NOISE_DB, loud(levels) - ABOVE_NOISE_DB))
    return np.asarray(levels >= limit)


def spectra(samples: Floats, rate: int, *, span_s: float, hop_s: float) -> tuple[Floats64, Floats64]:
    """Return power spectra of windowed frames, ``[frames, bins]``, and the frequency of each bin in Hz, ``[bins]``."""
    span, hop = round(span_s * rate), max(1, round(hop_s * rate))
    if len(samples) < span:
        samples = np.pad(samples, (0, span - len(samples)))
    window = np.hanning(span).astype(np.float32)
    frames = sliding_window_view(samples, span)[::hop] * window
    # A full-scale sine has a power of 1.
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)) * (2 / window.sum()))
    return power.astype(np.float64), np.fft.rfftfreq(span, 1 / rate).astype(np.float64)
