"""Progress of anything that takes a while, on stderr and without torch: a bar on a terminal, else a line every 10 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TextIO, TypeVar

T = TypeVar("T")

LINE_EVERY_S = 10.0
"""Seconds between lines where stderr is no terminal."""


def is_terminal(stream: TextIO | None = None) -> bool:
    """Say whether progress is watched by a person; ``stream`` is stderr unless given."""
    return (stream or sys.stderr).isatty()


def track(
    items: Iterable[T], description: str, *, total: int | None = None, every_s: float = LINE_EVERY_S
) -> Iterator[T]:
    """Yield ``items`` while showing how far it is on stderr; stdout stays clean.

    ``total`` is taken from the length of ``items`` where they have one. On a terminal this is a bar with the time
    left; elsewhere a line each ``every_s`` seconds and none for work that is done before the first is due.
    """
    total = len(items) if total is None and isinstance(items, Sized) else total
    return _bar(items, description, total) if is_terminal() else _lines(items, description, total, every_s)


class Pace:
    """Decides when a line is due, and estimates the time left from what was ``done`` since it was made."""

    def __init__(
        self, *, done: int = 0, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._done, self._every_s, self._clock = done, every_s, clock
        self._start = self._last = clock()

    def due(self) -> bool:
        """Say, at most once in ``every_s`` seconds, that a line is due."""
        now = self._clock()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True

    def left_s(self, done: int, total: int | None) -> float | None:
        """Return the seconds left at the average speed since the start, or None where it cannot be known."""
        if not total or done <= self._done:
            return None
        return (self._clock() - self._start) / (done - self._done) * max(total - done, 0)


def duration(seconds: float) -> str:
    """Write a duration as people say it: ``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def write_line(text: str) -> None:
    """Write one line to stderr at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _lines(items: Iterable[T], description: str, total: int | None, every_s: float) -> Iterator[T]:
    pace = Pace(every_s=every_s)
    for done, item in enumerate(items):
        if pace.due():
            write_line(describe(description, done, total, pace.left_s(done, total)))
        yield item


def describe(description: str, done: int, total: int | None, left_s: float | None) -> str:
    """Return one line of progress: ``Reading audio: 120/400 (30 %), 20 s left``."""
    share = f"/{total} ({100 * done // total} %)" if total else ""
    return f"{description}: {done}{share}" + (f", {duration(left_s)} left" if left_s is not None else "")


def _bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=description)
