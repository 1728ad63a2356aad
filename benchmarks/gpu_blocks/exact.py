"""AdamW with 8-bit states computed plainly in float64, every code the nearest: what a card's kernel is held to.

bitsandbytes' own code for CPUs is no reference. It looks codes up at a resolution of 1/32768, so that squares next to 0
become a neighbour of the nearest code, and a weight whose gradients are small then moves by up to a step more or less:
0.78 of a step at the farthest of 16,384 weights, on an H200 as in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 256


def adamw8bit(weight: Tensor, gradients: Sequence[Tensor], options: Any) -> Tensor:
    """Return the weight, in float64, after a step along each gradient; its size is a multiple of ``BLOCK``."""
    from bitsandbytes.functional import create_dynamic_map

    maps = [create_dynamic_map(signed=signed).double() for signed in (True, False)]
    exact, (beta1, beta2) = weight.double(), options.betas
    mean = square = torch.zeros_like(exact)
    for count, gradient in enumerate(gradients, 1):
        slope = gradient.double()
        mean, square = beta1 * mean + (1 - beta1) * slope, beta2 * square + (1 - beta2) * slope.square()
        size = mean / (1 - beta1**count) / ((square / (1 - beta2**count)).sqrt() + options.eps)
        exact = exact * (1 - options.lr * options.weight_decay) - options.lr * size
        mean, square = (_kept(value, codes) for value, codes in zip((mean, square), maps, strict=True))
    return exact


def _kept(values: Tensor, codes: Tensor) -> Tensor:
    """Return what is left of values that are kept as codes, with a scale for each block."""
    rows = values.reshape(-1, BLOCK)
    # The scale is kept in float32.
    scale = rows.abs().amax(1, keepdim=True).float().double()
    middles = (codes[1:] + codes[:-1]) / 2
    found = codes[torch.bucketize(rows / scale.clamp(min=torch.finfo(torch.float64).tiny), middles)]
    return (found * scale).reshape(values.shape)
