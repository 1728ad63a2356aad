"""Cuts rows into chunks and works on them in processes, with results in order and clean ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
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

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Chunks handed out for each process: one at work, one waiting."""

AGAIN = "What is finished is kept: the same command again continues."


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
) -> Iterator[Result]:
    """Yield ``work(chunk)`` for each chunk, in order.

    Args:
        work: a function of a module, which the processes import.
        chunks: read no further ahead than the processes need.
        workers: processes, started afresh (``spawn``) as torch needs; 0 works in this one.
        setup: called once in each process with its number, before any work.

    Raises:
        TTSTrainError: if a process is killed (exit 70), or what ``work`` raises.
        Interrupted: on SIGTERM or Ctrl-C; all processes are stopped first.
    """
    if workers < 0:
        raise ConfigError(f"--workers must be 0 or more, not {workers}.")
    with _stop_signals():
        if workers == 0:
            if setup:
                setup(0)
            yield from map(work, chunks)
            return
        yield from _run_in_processes(work, chunks, workers, setup)


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


def _run_in_processes(
    work: Callable[[Item], Result], chunks: Iterable[Item], workers: int, setup: Callable[[int], None] | None
) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(context.Value("i", 0), setup, workers)
    )
    try:
        pending: deque[Future[Result]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(work, chunk))
            if len(pending) >= AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise TTSTrainError(
            f"One of {workers} worker processes was killed, often because memory ran out; use fewer --workers. {AGAIN}"
        ) from error
    finally:
        # After a fault, waiting for the running chunks could take minutes, and a stopped command must stop.
        processes = set(multiprocessing.active_children()) - before
        for process in processes:
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join()


def _begin(counter: Any, setup: Callable[[int], None] | None, workers: int) -> None:  # noqa: ANN401 - no public type
    """Prepare a process: its own share of threads, no signals (the parent decides), and an end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(max(1, (os.cpu_count() or 1) // workers))
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if setup:
        setup(number)


def limit_threads(count: int) -> None:
    """Let this process compute with ``count`` threads; call it before torch and the like are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)


def _end_with_parent() -> None:
    """End this process when its parent does: a killed parent cannot say so, and orphans would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into Interrupted while in the block (in the main thread, where signals arrive)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise Interrupted(f"Stopped by {signal.Signals(number).name}. {AGAIN}")
