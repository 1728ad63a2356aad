"""Writing in a thread beside training: in order, and a failure is raised where training asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundWrites:
    """Pieces of work that are done one after the other in threads of their own.

    Work after one that failed is left out until :meth:`wait`, since it builds on it. A thread lives only as long as its
    work, so that nothing of it is there when processes that load data are forked between saves.
    """

    def __init__(self) -> None:
        self._last: _Work | None = None
        self._failure: BaseException | None = None

    @property
    def pending(self) -> bool:
        """Whether something is still being done."""
        return self._last is not None and self._last.is_alive()

    def submit(self, work: Callable[[], None]) -> None:
        """Do ``work`` once all that was submitted before is done."""
        self._last = _Work(work, self._last, self._note)
        self._last.start()

    def poll(self) -> None:
        """Raise what has failed so far; nothing is waited for. It is raised once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Wait until all is done, and raise what failed."""
        last, self._last = self._last, None
        if last is not None:
            last.join()
        self.poll()

    def _note(self, failure: BaseException) -> None:
        self._failure = failure


class _Work(threading.Thread):
    def __init__(self, work: Callable[[], None], before: _Work | None, note: Callable[[BaseException], None]) -> None:
        super().__init__(name="tts-train-save")
        self._work, self._before, self._note = work, before, note
        self._left_out = False
        """Whether it failed, or what it builds on did; told apart from the failure, which may be raised meanwhile."""

    def run(self) -> None:
        # Let go of it: otherwise each work would keep all those before it, and what they hold.
        before, self._before = self._before, None
        if before is not None:
            before.join()
            self._left_out = before._left_out
        if not self._left_out:
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - raised in the thread that asks
                self._left_out = True
                self._note(error)
