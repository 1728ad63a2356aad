"""A mean with its 95 % interval, by the percentile bootstrap over utterances (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class ConfidenceInterval:
    """A mean over utterances."""

    n: int
    """Utterances that have the figure."""
    mean: float
    low: float | None
    """Lower end of the 95 % interval; None for a single utterance, of which nothing can be resampled."""
    high: float | None
    """Upper end."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)


def estimate(values: Sequence[float], *, seed: int) -> ConfidenceInterval | None:
    """Return mean and interval of ``values``; None if there are none. The same seed gives the same interval."""
    if not values:
        return None
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 1:
        return ConfidenceInterval(1, float(numbers[0]), None, None)
    chosen = np.random.default_rng(seed).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(numbers[chosen].mean(axis=1), [tail, 100 - tail])
    return ConfidenceInterval(len(numbers), float(numbers.mean()), float(low), float(high))
