"""Keeps what is not training within a share of a run's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_S = 1.0
"""Seconds that must be there to spend before something is tried whose cost is not known yet."""


class TimeBudget:
    """Measures what a piece of work costs and says whether it may be done again.

    Args:
        max_share: Most of the time (0 to 1) that it may take; 1 sets no limit.
        clock: Seconds that only rise.
    """

    def __init__(self, max_share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_share = max_share
        self.done = 0
        """How often the work was done."""
        self.left_out = 0
        """How often there was no time for it."""
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._cost: float | None = None

    def begin(self) -> None:
        """Start to count the run's time, and forget what was spent."""
        self._began, self._spent, self.done, self.left_out = self._clock(), 0.0, 0, 0

    @property
    def share(self) -> float:
        """Share of the time since :meth:`begin` that the work took."""
        return self._spent / max(self._clock() - self._began, 1e-9)

    @property
    def cost_s(self) -> float:
        """Seconds that the work took last, or was said to take; 0 before the first."""
        return self._cost or 0.0

    def allows(self, *, needed: bool = False) -> bool:
        """Tell whether there is time for what it cost last; ``needed`` work is always done. Counts what is not."""
        earned = self.max_share * (self._clock() - self._began) - self._spent
        allowed = needed or self.max_share >= 1 or earned >= (FIRST_S if self._cost is None else self._cost)
        self.left_out += not allowed
        return allowed

    def expect(self, seconds: float) -> None:
        """Say what the work will cost next time, where that is known better than by what it cost last."""
        self._cost = seconds

    @contextmanager
    def spend(self, *, counts: bool = True) -> Iterator[None]:
        """Measure the work in the block; what only prepares for it does not count as done."""
        start = self._clock()
        try:
            yield
        finally:
            cost = self._clock() - start
            self._cost = cost
            self._spent += cost
            self.done += counts
