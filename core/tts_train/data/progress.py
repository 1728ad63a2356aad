"""Progress of long work on stderr: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0
"""Seconds between lines when stderr is no terminal."""

_log = logging.getLogger(__name__)


class RowProgress:
    """Shows how many rows are done.

    Args:
        what: a word or two before the numbers.
        total: rows in all; None if not known yet.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._next = time.monotonic() + EVERY
        self._bar = _bar() if sys.stderr.isatty() else None

    def __enter__(self) -> RowProgress:
        if self._bar is not None:
            self._task = self._bar.add_task(self.what, total=self.total, note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, rows: int, *, total: int | None = None, note: str = "") -> None:
        """Add finished rows; ``total`` corrects the total, ``note`` stands behind the numbers."""
        self.done += rows
        self.total = total or self.total
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, total=self.total, note=note)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            _log.info(
                "%s: %d%s rows%s",
                self.what,
                self.done,
                f" of {self.total}" if self.total else "",
                f", {note}" if note else "",
            )


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
