"""Cuts rows into chunks and works on them in processes: results in order, and a row that kills a process is named."""

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
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, NoReturn, TypeVar

import xxhash

from tts_train.errors import ConfigError, Interrupted, MissingExtraError, TTSTrainError
from tts_train.parallel.processes import STOP, ignore_interruptions

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


AGAIN = "What is finished is kept: the same command again, or the same call, continues."


def cut(items: Iterable[Item], *, size: int, key: Callable[[Item], str]) -> Iterator[list[Item]]:
    """Cut items into chunks of ``size`` on average, at most twice and (but for the last) at least half of it.

    A chunk ends after an item whose key's hash says so, not after a fixed number: items added or removed in one place
    change the chunk they are in and hardly ever the others, whose results can be used again.
    """
    if size < 1:
        raise ConfigError(f"A chunk needs at least one row, not {size}.")
    least, most = (size + 1) // 2, 2 * size
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        ends = xxhash.xxh3_64_intdigest(key(item).encode("utf-8", "surrogatepass")) % max(1, size - least) == 0
        if len(chunk) >= most or (len(chunk) >= least and ends):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def run_chunks(
    work: Callable[[Item], Result],
    chunks: Iterable[Item],
    *,
    workers: int = 0,
    setup: Callable[[int], None] | None = None,
    lost: Callable[[Any], None] | None = None,
    again: str = AGAIN,
) -> Iterator[Result]:
    """Yield ``work(chunk)`` for each chunk, in order.

    A process that dies is replaced. Where a chunk kills its process also while nothing else runs, ``lost`` is called
    with each of its rows that does so alone, and the chunk is worked on without them.

    Args:
        work: a function of a module, which the processes import.
        chunks: read no further ahead than the processes need.
        workers: processes, started afresh (``spawn``) as torch needs; 0 works in this one.
        setup: called once in each process with its number, before any work.
        lost: chunks are lists, and this is told of each row that kills the process that works on it; None: a killed
            process ends the work.
        again: what a message says about going on.

    Raises:
        TTSTrainError: if a process is killed and no row is to blame (exit 70), or what ``work`` raises.
        Interrupted: on SIGTERM or Ctrl-C; all processes are stopped first.
    """
    if workers < 0:
        raise ConfigError(f"--workers must be 0 or more, not {workers}.")
    with _stop_signals(again):
        if workers == 0:
            if setup:
                setup(0)
            yield from map(work, chunks)
            return
        yield from run_in_processes(work, chunks, workers=workers, setup=setup, lost=lost, again=again)


def run_chunks_on_ray(
    work: Callable[[Item], Result],
    chunks: Iterable[Item],
    *,
    workers: int,
    setup: Callable[[int], None] | None = None,
    gpus_each: float = 0,
) -> Iterator[Result]:
    """Yield ``work(chunk)`` for each chunk, in order, from actors of Ray Data on whatever cluster Ray finds.

    The corpus and the prepared folder must be on storage that all machines share.

    Raises:
        MissingExtraError: if Ray is not installed.
    """
    try:
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError("--engine ray", "ray") from error

    class Worker:
        def __init__(self) -> None:
            if setup:
                setup(0)

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {"number": row["number"], "result": work(row["chunk"])}

    # Ray gives results back as they are done; the numbers put them in the corpus's order again.
    rows = [{"number": number, "chunk": chunk} for number, chunk in enumerate(chunks)]
    done = ray.data.from_items(rows, override_num_blocks=max(1, len(rows))).map(
        Worker, compute=ray.data.ActorPoolStrategy(size=max(1, workers)), num_gpus=gpus_each or None
    )
    waiting: dict[int, Result] = {}
    due = 0
    for row in done.iter_rows():
        waiting[int(row["number"])] = row["result"]
        while due in waiting:
            yield waiting.pop(due)
            due += 1


@contextmanager
def _stop_signals(again: str) -> Iterator[None]:
    """Turn what asks to stop into Interrupted while in the block (in the main thread, where signals arrive)."""
    # Python lets only the main thread set handlers; a call from a notebook may be in another.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        raise Interrupted(f"Stopped by {signal.Signals(number).name}. {again}".strip())

    previous = {number: signal.signal(number, interrupt) for number in STOP}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
