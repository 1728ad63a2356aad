"""Cuts rows into chunks and has them worked on: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

import xxhash

from tts_train.errors import ConfigError, Interrupted, MissingExtraError
from tts_train.parallel.processes import STOP
from tts_train.parallel.workers import run_in_processes

Item = TypeVar("Item")
Result = TypeVar("Result")

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
