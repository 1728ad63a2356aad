"""Which clips or texts go through a network together, being of like length, and which side by side on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

_MOST_PADDING = 8
"""One joins a group if at most one part in this many of it would be padding."""


def like_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group indices into ``lengths``, every one once, longest first.

    A group padded to its longest has at most ``most`` steps; what is longer goes alone.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        # What counts is the padded size, since padding is computed as well.
        fits = groups and longest * (len(groups[-1]) + 1) <= most
        if fits and (longest - lengths[index]) * _MOST_PADDING <= longest:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def step_mask(lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """Return True (B, T) on the steps of each row; None where all are as long as the longest."""
    if min(lengths) == max(lengths):
        return None
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]


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
    # On a GPU threads would only wait for one another.
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
