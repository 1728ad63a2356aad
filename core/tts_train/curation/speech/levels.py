"""How loud the noise is between the words, and which moments stand out of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WINDOW = 2000
"""Levels (of 5 ms) over which the noise is taken for the same: 10 s, in which anybody pauses."""
_QUIET_SHARE = 10.0
_LEAST_PAUSES = 0.3


def smooth(levels: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the level of the mean power of ``width`` neighbours, of (time,) in dB."""
    if not len(levels):
        return levels
    power = np.pad(10 ** (levels.astype(np.float64) / 10), (width // 2, width - 1 - width // 2), mode="edge")
    total = np.concatenate([[0.0], np.cumsum(power)])
    # Differences of large sums may come out a little below zero.
    mean = np.maximum((total[width:] - total[:-width]) / width, 1e-12)
    return np.asarray(10 * np.log10(mean), np.float32)


def noise_floor(
    levels: NDArray[np.float32], pauses: NDArray[np.bool_] | None = None, *, share: float = 50.0, window: int = _WINDOW
) -> NDArray[np.float32]:
    """Return the level of the noise around each moment, in dB.

    Args:
        levels: (time,) in dB.
        pauses: (time,) moments that are known to have no speech; without it the quietest tenth is the noise.
        share: of the pauses' moments, in percent, that are at most so loud; 50 is their median.
        window: levels over which the noise is taken for the same.
    """
    if not len(levels):
        return levels
    centres, floors = [], []
    for start in range(0, len(levels), window // 2):
        stretch = levels[start : start + window]
        quiet = stretch[pauses[start : start + window]] if pauses is not None else stretch[:0]
        # A median needs some pauses: 0.3 s of them. Fewer say less than the quietest tenth does.
        enough = len(quiet) >= _LEAST_PAUSES * 200
        floors.append(float(np.percentile(quiet, share) if enough else np.percentile(stretch, _QUIET_SHARE)))
        centres.append(start + len(stretch) / 2)
    return np.asarray(np.interp(np.arange(len(levels)), centres, floors), np.float32)


def runs(active: NDArray[np.bool_], *, join: int = 0, least: int = 1) -> list[tuple[int, int]]:
    """Return (first, past the last) of each run of True.

    Args:
        active: (time,).
        join: gaps of at most so many do not end a run.
        least: runs shorter than this are left out, after they were joined.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    found: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if found and start - found[-1][1] <= join:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return [(start, end) for start, end in found if end - start >= least]
