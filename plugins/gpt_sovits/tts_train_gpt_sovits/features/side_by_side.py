"""Clips next to each other on a CPU: each has its own threads, rather than all sharing one clip's small products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 4
"""At once: a clip of 54 s holds 0.7 GB in the first convolutions."""


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """Return ``work`` of each item, in order, without gradients; on a CPU several at once, as torch's threads allow.

    Threads that share a clip wait for each other after each of a thousand small steps, and where other work takes a
    core, the rest spin meanwhile. ``work`` must not change anything that another item's reads.
    """
    threads = torch.get_num_threads()
    at_once = min(threads, len(items), MOST) if device.type == "cpu" else 1

    def begin() -> None:
        torch.set_num_threads(threads // at_once)

    # Whether gradients are kept is a setting of each thread.
    alone = torch.no_grad()(work)
    if at_once < 2:
        return [alone(item) for item in items]
    try:
        with ThreadPoolExecutor(at_once, initializer=begin) as pool:
            return list(pool.map(alone, items))
    finally:
        torch.set_num_threads(threads)
