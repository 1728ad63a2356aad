"""bitsandbytes' 256 values of an 8-bit state, and the numbers from which a nearest one is computed without a search."""

from __future__ import annotations

import torch
from torch import Tensor

DECADES = 7
LENGTH = 2 * 256 + 2 * 24
"""Numbers in :func:`tables`."""


def tables(signed: Tensor, unsigned: Tensor) -> Tensor:
    """Return both maps and, for each, what finds the nearest value; float32 of 560.

    A map holds 0, 1 and, for each of 7 decades, ``n`` evenly spaced magnitudes (n doubles with each decade), with both
    signs if it is signed (Dettmers et al. 2021, arXiv 2110.02861). So the nearest is found by counting the decades
    that begin below a value, and by its place within that decade.

    Layout: 0 the signed map, 256 the unsigned map, 512 the signed and 536 the unsigned numbers: for each where the
    first value, decades 1 to 6, and the value 1 begin (8), then for each decade steps per unit (8) and its first step
    (8).
    """
    return torch.cat([signed, unsigned, _numbers(signed[128:]), _numbers(unsigned[1:])]).float()


def _numbers(magnitudes: Tensor) -> Tensor:
    """Return the numbers of the sorted magnitudes above 0, the last of which is 1."""
    values = magnitudes.double()
    first = (len(values) - 1) // (2**DECADES - 1)  # values of the lowest decade: 1 if signed, 2 if not
    begins = [first * (2**decade - 1) for decade in range(DECADES + 1)]
    below = torch.cat([values.new_zeros(1), values])
    # Halfway between neighbours: from there on a value is nearer to the upper one.
    starts = [float(below[place] + below[place + 1]) / 2 for place in begins]
    scales = [0.9 * 10.0 ** (decade - DECADES + 1) / (first * 2**decade) for decade in range(DECADES)]
    steps = [1 / scale for scale in scales]
    offsets = [0.1 * 10.0 ** (decade - DECADES + 1) / scale for decade, scale in enumerate(scales)]
    return torch.tensor([*starts, *steps, 0.0, *offsets, 0.0], dtype=torch.float64)
