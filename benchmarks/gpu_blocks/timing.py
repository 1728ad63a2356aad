"""Times of single operations on a device, the names of the kernels that did them, and a limit for a part of a block."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the main thread after ``seconds``.

    A wait inside one of CUDA's own calls is not interrupted: the error comes when that call returns. Where it never
    does, the limit of the whole block ends the process.
    """

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def once(call: Callable[[], Any], *, cuda: bool) -> float:
    """Return the time of one call in milliseconds, from the host's call to the device's end."""
    if cuda:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begun)


def on_device(call: Callable[[], Any], *, cuda: bool, times: int = 10, warm: int = 3) -> float:
    """Return the mean time of a call that follows another at once, launches hidden, in milliseconds."""
    for _ in range(warm):
        call()
    if not cuda:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        return 1000 * (time.perf_counter() - begun) / times
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / times


def kernels(call: Callable[[], Any], *, cuda: bool) -> list[str]:
    """Return the names of the device's kernels that a call runs (on a CPU: of operators)."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as seen:
        call()
        if cuda:
            torch.cuda.synchronize()
    events = seen.events() or []
    wanted = [event for event in events if ("CUDA" in str(event.device_type)) == cuda]
    return list(dict.fromkeys(event.name for event in wanted))
