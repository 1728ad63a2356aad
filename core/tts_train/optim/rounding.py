"""Rounding float32 to bfloat16 so that small changes survive on average."""

from __future__ import annotations

import torch
from torch import Tensor


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 ``values`` to one of their two bfloat16 neighbours, each the likelier the nearer it is.

    The expected result is the value itself (Gupta et al. 2015, arXiv 1502.02551): 16 random bits are added below the
    bits that bfloat16 keeps, and what is left below is cut off. A value that bfloat16 can hold stays as it is, and so
    do infinities and NaN.

    Args:
        values: Float32 tensor, contiguous; overwritten.
        generator: Of the same device.
    """
    noise = torch.empty_like(values, dtype=torch.int32).random_(0, 1 << 16, generator=generator)
    # A device's own NaN can have every mantissa bit set; the noise would carry it over into a number.
    noise.mul_(torch.isfinite(values))
    values.view(torch.int32).add_(noise).bitwise_and_(-(1 << 16))
    return values.to(torch.bfloat16)
