"""Writing in a thread beside training: in order, and a failure is raised where training asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundWrites:
    """Pieces of work that are done one after the other in threads of their own.

    Work after one that failed is left out, since it builds on it. A thread lives only as long as its work, so that
    nothing of it is there when processes that load data are forked between saves.
    """

    def __init__(self) -> None:
        self._last: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def pending(self) -> bool:
        """Whether something is still being done."""
        return self._last is not None and self._last.is_alive()

    def submit(self, work: Callable[[], None]) -> None:
        """Do ``work`` once all that was submitted before is done."""
        before = self._last

        def run() -> None:
            if before is not None:
                before.join()
            if self._failure is None:
                try:
                    work()
                except BaseException as error:  # noqa: BLE001 - raised in the thread that asks
                    self._failure = error

        self._last = threading.Thread(target=run, name="tts-train-save")
        self._last.start()

    def poll(self) -> None:
        """Raise what has failed so far; nothing is waited for. It is raised once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Wait until all is done, and raise what failed."""
        last = self._last
        if last is not None:
            last.join()
            self._last = None
        self.poll()
