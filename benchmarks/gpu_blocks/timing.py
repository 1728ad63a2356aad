"""Times of single operations on a device, and the names of the kernels that did them."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def milliseconds(call: Callable[[], Any], *, cuda: bool, times: int = 10, warm: int = 3) -> float:
    """Return the median time of a call, by the device's clock."""
    for _ in range(warm):
        call()
    return median(once(call, cuda=cuda) for _ in range(times))


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
