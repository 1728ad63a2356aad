"""What the lengths of a set's rows look like: totals, quantiles and a histogram, in plain types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 12
"""Most bars of the histogram."""


def describe_lengths(lengths: Sequence[int] | npt.NDArray[np.integer]) -> dict[str, Any]:
    """Return total, min, median, p95, max and ``histogram``: [from, below, rows] bars of one round width."""
    sizes = np.asarray(lengths, dtype=np.int64)
    if not len(sizes):
        return {"total": 0, "min": 0, "median": 0, "p95": 0, "max": 0, "histogram": []}
    return {
        "total": int(sizes.sum()),
        "min": int(sizes.min()),
        "median": int(np.quantile(sizes, 0.5, method="lower")),
        "p95": int(np.quantile(sizes, 0.95, method="lower")),
        "max": int(sizes.max()),
        "histogram": _bars(sizes),
    }


def _bars(sizes: npt.NDArray[np.int64]) -> list[list[int]]:
    width = _round_width(int(sizes.max()) + 1)
    counts = np.bincount(sizes // width)
    return [[i * width, (i + 1) * width, int(count)] for i, count in enumerate(counts)]


def _round_width(span: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, … with which ``span`` needs at most BINS bars."""
    width = 1
    while True:
        for factor in (1, 2, 5):
            if width * factor * BINS >= span:
                return width * factor
        width *= 10
