"""Dynamic time warping: which frame of one sound belongs to which of another (Sakoe and Chiba 1978)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = "NDArray[np.float64]"
Indices: TypeAlias = "NDArray[np.int64]"


def distances(one: Doubles, other: Doubles) -> Doubles:
    """Return the Euclidean distance of every frame of ``one`` (n, d) to every one of ``other`` (m, d), as (n, m)."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    found: Doubles = np.sqrt(np.maximum(squares, 0))
    return found


def warp(cost: Doubles) -> tuple[Indices, Indices]:
    """Return the pairs of frames on the cheapest path through ``cost`` (n, m), from (0, 0) to (n - 1, m - 1).

    A step advances one sound, the other, or both by one frame; all steps weigh the same and the sum is exactly least.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(total[i - 1, j - 1], total[i - 1, j]), total[i, j - 1])
        total[i, j] = cost[i - 1, j - 1] + before
    return _way_back(total)


def _way_back(total: Doubles) -> tuple[Indices, Indices]:
    i, j = total.shape[0] - 1, total.shape[1] - 1
    path = [(i, j)]
    while (i, j) != (1, 1):
        # Where ways are equally cheap, both sounds advance.
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda step: total[step])
        path.append((i, j))
    pairs = np.asarray(path[::-1], dtype=np.int64) - 1
    return pairs[:, 0], pairs[:, 1]
