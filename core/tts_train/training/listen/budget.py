"""Keeps what is not training within a share of a run's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeBudget:
    """Measures what a piece of work costs and says whether it may be done again; the first time is always allowed.

    Args:
        max_share: Most of the time (0 to 1) that it may take; 1 sets no limit.
        clock: Seconds that only rise.
    """

    def __init__(self, max_share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_share = max_share
        self.done = 0
        """How often the work was done."""
        self.left_out = 0
        """How often it was skipped to stay within the share."""
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._cost = 0.0

    def begin(self) -> None:
        """Start to count the run's time, and forget what was spent."""
        self._began, self._spent, self.done, self.left_out = self._clock(), 0.0, 0, 0

    @property
    def share(self) -> float:
        """Share of the time since :meth:`begin` that the work took."""
        return self._spent / max(self._clock() - self._began, 1e-9)

    def allows(self, *, needed: bool = False) -> bool:
        """Tell whether what the work cost last fits the share; ``needed`` work is always done. Counts what is not."""
        earned = self.max_share * (self._clock() - self._began) - self._spent
        # What it costs is not known before the first time.
        allowed = needed or self.done == 0 or self.max_share >= 1 or earned >= self._cost
        self.left_out += not allowed
        return allowed

    @contextmanager
    def spend(self, *, counts: bool = True) -> Iterator[None]:
        """Measure the work in the block; what only prepares for it adds to the time spent, and is not done again."""
        start = self._clock()
        try:
            yield
        finally:
            cost = self._clock() - start
            self._spent += cost
            if counts:
                self._cost = cost
                self.done += 1
