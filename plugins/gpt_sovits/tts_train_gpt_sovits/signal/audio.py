"""Samples to files as the released preparation does it: loudness mix, 16-bit words and slicing at silences."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.contract import DataError

FULL_SCALE = 32768.0
FEATURE_SCALE = 1145.14
"""Scale at which the speech features' network is fed."""
_MIX_PEAK, _MIX_ALPHA = 0.95, 0.5


def training_wave(samples: Tensor) -> Tensor:
    """Return int16 training audio of float samples (N,): half normalised to a peak of 0.95, half as it is.

    What is louder than 16 bits hold is cut off; the released preparation lets it wrap round.
    """
    return to_int16(_mix(samples, FULL_SCALE))


def feature_wave(samples: Tensor) -> Tensor:
    """Return the samples that the speech features are computed of, before they are resampled to 16 kHz."""
    return _mix(samples, FEATURE_SCALE)


def slice_wave(samples: Tensor, *, peak: float = 0.9, alpha: float = 0.25) -> Tensor:
    """Return int16 audio of one slice (N,), ``alpha`` of it normalised to ``peak`` and the rest as it is."""
    loudest = _loudest(samples)
    # Upstream divides by the old peak once more after this, so loud slices come out quieter than the others; here the
    # peak is 1 afterwards (tools/slice_audio.py).
    if loudest > 1.0:
        samples, loudest = samples / loudest, torch.ones_like(loudest)
    mixed = samples / loudest * (peak * alpha) + (1 - alpha) * samples
    return to_int16(mixed * (FULL_SCALE - 1))


def to_int16(samples: Tensor) -> Tensor:
    """Return samples at 16-bit scale as int16: fractions dropped, what is too loud cut off."""
    # Upstream casts without a limit: what is beyond full scale wraps to the other sign, which is heard as a crack.
    return samples.clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)


@dataclass(frozen=True, kw_only=True)
class SliceOptions:
    """Where a recording is cut."""

    threshold: float = -34.0
    """Level in dB below which a frame is silent."""
    min_length: float = 4000.0
    """Least milliseconds from a cut to the next."""
    min_interval: float = 300.0
    """Least milliseconds of silence that is cut at."""
    hop_length: float = 10.0
    """Milliseconds of a frame."""
    max_silence: float = 500.0
    """Most milliseconds of silence kept at a slice's end."""


class Slice(NamedTuple):
    """A stretch of a recording, in samples."""

    start: int
    end: int


def find_slices(samples: Tensor, sample_rate: int, options: SliceOptions = SliceOptions()) -> list[Slice]:
    """Return the stretches between the silences of mono samples (N,), as the released slicer finds them.

    A recording without a silence to cut at, or too short for one, is one slice.
    """
    hop = round(sample_rate * options.hop_length / 1000)
    interval = sample_rate * options.min_interval / 1000
    levels = frame_levels(samples, min(round(interval), 4 * hop), hop)
    gaps = _find_gaps(
        levels,
        silent=levels < 10 ** (options.threshold / 20),
        min_length=round(sample_rate * options.min_length / 1000 / hop),
        min_interval=round(interval / hop),
        keep=round(sample_rate * options.max_silence / 1000 / hop),
    )
    frames, total = len(levels), len(samples)
    edges = [(0, 0), *gaps, (frames, frames)]
    spoken = [(before[1], after[0]) for before, after in pairwise(edges)]
    ends = [Slice(start * hop, min(end * hop, total)) for start, end in spoken if start < end]
    return [each for each in ends if each.start < each.end] if gaps else [Slice(0, total)]


def frame_levels(samples: Tensor, width: int, hop: int) -> Tensor:
    """Return the root mean square of ``width`` samples around every ``hop``-th; beyond the edges is silence."""
    padded = F.pad(samples, (width // 2, width // 2))
    return padded.unfold(0, width, hop).square().mean(dim=1).sqrt()


def _find_gaps(
    levels: Tensor, *, silent: Tensor, min_length: int, min_interval: int, keep: int
) -> list[tuple[int, int]]:
    """Return the frames to leave out, first and past the last, of every silence that is cut at."""
    gaps: list[tuple[int, int]] = []
    last_cut = 0
    for start, end in _runs(silent):
        # As in openvpi's slicer, which upstream took over: another order of the rules gives other slices.
        if end == len(levels):  # the silence lasts to the end of the recording
            if end - start >= min_interval:
                gaps.append((_quietest(levels, start, start + keep), end + 1))
            continue
        leading = start == 0 and end > keep
        between = end - start >= min_interval and end - last_cut >= min_length
        if not (leading or between):
            continue
        left, right = _cut(levels, start, end, keep)
        gaps.append((0 if start == 0 else left, right))
        last_cut = right
    return gaps


def _cut(levels: Tensor, start: int, end: int, keep: int) -> tuple[int, int]:
    """Return where the slice before a silence ends and where the next begins: the quietest frames within ``keep``."""
    if end - start <= keep:
        middle = _quietest(levels, start, end)
        return middle, middle
    left, right = _quietest(levels, start, start + keep), _quietest(levels, end - keep, end)
    if end - start <= 2 * keep and start > 0:
        # The two windows overlap here; upstream looks at their common part as well.
        middle = _quietest(levels, end - keep, start + keep)
        return min(left, middle), max(right, middle)
    return left, right


def _quietest(levels: Tensor, first: int, last: int) -> int:
    """Return the quietest frame from ``first`` to ``last``, both included."""
    return first + int(levels[first : last + 1].argmin())


def _runs(silent: Tensor) -> list[tuple[int, int]]:
    """Return first frame and frame past the last of every run of True."""
    edges = torch.diff(F.pad(silent.to(torch.int8), (1, 1)))
    starts, ends = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    return list(zip(starts, ends, strict=True))


def _mix(samples: Tensor, scale: float) -> Tensor:
    loudest = _loudest(samples)
    # Half at a fixed peak and half as recorded, so that quiet clips become louder without all being equal.
    return samples / loudest * (_MIX_PEAK * _MIX_ALPHA * scale) + (1 - _MIX_ALPHA) * scale * samples


def _loudest(samples: Tensor) -> Tensor:
    loudest = samples.abs().max() if len(samples) else torch.zeros(())
    if not (torch.isfinite(loudest) and loudest > 0):
        raise DataError("The recording is empty, silent or not finite; there is no loudness to mix.")
    return loudest
