"""Progress of anything that takes a while, on stderr and without torch: a bar on a terminal, else a line every 10 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_EVERY_S = 10.0
"""Seconds between lines where stderr is no terminal."""


def is_terminal(stream: TextIO | None = None) -> bool:
    """Say whether progress is watched by a person; ``stream`` is stderr unless given."""
    return (stream or sys.stderr).isatty()


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


def describe(description: str, done: int, total: int | None, left_s: float | None) -> str:
    """Return one line of progress: ``Reading audio: 120/400 (30 %), 20 s left``."""
    share = f"/{total} ({100 * done // total} %)" if total else ""
    return f"{description}: {done}{share}" + (f", {duration(left_s)} left" if left_s is not None else "")


class Progress:
    """Shows on stderr how many rows are done, between ``with`` and the end of the block; stdout stays clean.

    On a terminal it is a bar with the time left; elsewhere a line each ``every_s`` seconds, and none for work that is
    done before the first is due.

    Args:
        description: what is being done, a word or two.
        total: rows in all; None if not known yet.
        done: rows that were done before, and took no time now.
    """

    def __init__(
        self, description: str, total: int | None = None, *, done: int = 0, every_s: float = LINE_EVERY_S
    ) -> None:
        self.description, self.total, self.done = description, total, done
        self._pace = Pace(done=done, every_s=every_s)
        self._speed: Pace | None = None
        self._bar = _bar() if is_terminal() else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.done, note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, rows: int = 1, *, total: int | None = None, note: str = "") -> None:
        """Count finished rows; ``total`` corrects the total, ``note`` stands behind the numbers."""
        self.to(self.done + rows, total, note=note)

    def to(self, done: int, total: int | None = None, *, note: str = "") -> None:
        """Set how many rows are finished."""
        self.done, self.total = done, total or self.total
        if self._speed is None:
            # From the first result on: the time until then went into loading networks, not into rows.
            self._speed = Pace(done=done)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, total=self.total, note=note)
        elif self._pace.due():
            line = describe(self.description, self.done, self.total, self._speed.left_s(self.done, self.total))
            write_line(f"{line}, {note}" if note else line)

    def write(self, text: str) -> None:
        """Write a line, above the bar where there is one."""
        if self._bar is not None:
            # Without markup: rich would take a word in square brackets for a style.
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            write_line(text)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress as RichProgress, TextColumn, TimeRemainingColumn

    # With these widths a line of training fits a terminal of 80 columns.
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn())
    return RichProgress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True)
