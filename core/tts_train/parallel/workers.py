"""Works on chunks in processes: results in order, and a row that kills its process is named and left out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from tts_train.errors import TTSTrainError
from tts_train.parallel.processes import ignore_interruptions

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_WINDOWS = 61
"""Processes that a pool can wait for under Windows."""
AHEAD = 2
"""Chunks handed out for each process: one at work, one waiting."""
_SURE = 3


def run_in_processes(
    work: Callable[[Any], Result],
    chunks: Iterable[Any],
    *,
    workers: int,
    setup: Callable[[int], None] | None,
    lost: Callable[[Any], None] | None,
    again: str,
) -> Iterator[Result]:
    """Yield ``work(chunk)`` for each chunk, in order; see :func:`tts_train.parallel.chunks.run_chunks`."""
    pool = _Pool(workers, setup)
    pending: deque[tuple[Any, Future[Result] | None]] = deque()

    def first() -> Result:
        chunk, future = pending.popleft()
        try:
            if future is not None:
                result = future.result()
                pool.worked = True
                return result
        except BrokenProcessPool as error:
            if lost is None:
                raise _killed(workers, again) from error
            pool.restart()
            # One of the chunks at work killed its process; the others went with it. Each is tried by itself.
            others = [(other, its if its is not None and _has_result(its) else None) for other, its in pending]
            pending.clear()
            pending.extend(others)
        assert lost is not None
        return _alone(work, chunk, pool, lost, again)

    try:
        for chunk in chunks:
            pending.append((chunk, pool.submit(work, chunk)))
            if len(pending) >= AHEAD * workers:
                yield first()
        while pending:
            yield first()
        pool.end()
    finally:
        # Also where the consumer stops early: a generator that is closed runs no further, and processes would stay.
        pool.kill()


def limit_threads(count: int) -> None:
    """Let this process compute with ``count`` threads; call it before torch and the like are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)


def _alone(
    work: Callable[[Any], Result],
    chunk: Any,  # noqa: ANN401
    pool: _Pool,
    lost: Callable[[Any], None],
    again: str,
) -> Result:
    """Work on a chunk while nothing else runs; where it kills its process again, leave out the rows that do."""
    try:
        return pool.result(work, chunk)
    except BrokenProcessPool:
        rows, deadly = list(chunk), []
    for row in rows:
        try:
            pool.result(work, [row])
        except BrokenProcessPool as error:
            deadly.append(row)
            # Where nothing has ever come to an end, something else kills the processes.
            if not pool.worked and len(deadly) == _SURE:
                raise _killed(pool.workers, again) from error
    for row in deadly:
        lost(row)
    try:
        # By identity: items may be of any kind, and two of them equal.
        return pool.result(work, [row for row in rows if not any(row is one for one in deadly)])
    except BrokenProcessPool as error:
        raise _killed(pool.workers, again) from error


def _killed(workers: int, again: str) -> TTSTrainError:
    advice = f"often because memory ran out; use fewer --workers. {again}"
    return TTSTrainError(f"One of {workers} worker processes was killed, {advice}".strip())


def _has_result(future: Future[Any]) -> bool:
    """Tell whether a chunk came to an end of its own before a process died."""
    if not future.done() or future.cancelled():
        return False
    return not isinstance(future.exception(), BrokenProcessPool)


class _Pool:
    """Worker processes, started afresh (``spawn``) as torch needs, and again after one has died."""

    def __init__(self, workers: int, setup: Callable[[int], None] | None) -> None:
        self.workers = min(workers, _MOST_WINDOWS) if sys.platform == "win32" else workers
        self.worked = False
        """Whether any chunk has come to an end."""
        self._setup = setup
        # Processes that somebody else of this program started, such as data loaders, are not to be killed.
        self._before = set(multiprocessing.active_children())
        self._executor = self._start()

    def submit(self, work: Callable[[Any], Result], chunk: Any) -> Future[Result]:  # noqa: ANN401
        try:
            return self._executor.submit(work, chunk)
        except BrokenProcessPool:  # it broke since it was last asked; what it held is tried again when its turn comes
            self.restart()
            return self._executor.submit(work, chunk)

    def result(self, work: Callable[[Any], Result], chunk: Any) -> Result:  # noqa: ANN401
        """Work on one chunk and wait for it; after a death the next one finds new processes."""
        try:
            result = self.submit(work, chunk).result()
        except BrokenProcessPool:
            self.restart()
            raise
        self.worked = True
        return result

    def restart(self) -> None:
        self.kill()
        self._executor = self._start()

    def end(self) -> None:
        """Let the processes end by themselves."""
        self._executor.shutdown()

    def kill(self) -> None:
        """End the processes now: waiting for the running chunks could take minutes, and a stopped command must stop."""
        processes = set(multiprocessing.active_children()) - self._before
        for process in processes:
            process.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        # The executor gives all processes the same arguments, so they count themselves.
        arguments = (context.Value("i", 0), self._setup, self.workers)
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin, initargs=arguments)


def _begin(counter: Any, setup: Callable[[int], None] | None, workers: int) -> None:  # noqa: ANN401 - no public type
    """Prepare a process: its own share of threads, no signals (the parent decides), and an end with its parent."""
    ignore_interruptions()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Each library would start a thread for each core in each process, and they would wait for one another.
    limit_threads(max(1, (os.cpu_count() or 1) // workers))
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if setup:
        setup(number)


def _end_with_parent() -> None:
    """End this process when its parent does: a killed parent cannot say so, and orphans would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
