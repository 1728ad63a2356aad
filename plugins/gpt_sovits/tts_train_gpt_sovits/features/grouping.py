"""Which clips or texts go through a network together: those of like length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

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
