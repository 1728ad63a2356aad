"""Operations on frames that networks and spectrograms share: masks, upsampling, reflection padding, full precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def length_mask(lengths: Tensor, frames: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the mask (B, 1, frames) of utterances of ``lengths`` (B,) frames."""
    positions = torch.arange(frames, device=lengths.device)
    return (positions < lengths[:, None])[:, None].to(dtype)


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context in which what is computed of ``x`` keeps its types under autocast."""
    return torch.autocast(x.device.type, enabled=False)


def upsample(x: Tensor, factor: float) -> Tensor:
    """Return ``x`` with each frame repeated, int(T * factor) frames in all."""
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def reflect(x: Tensor, before: int, after: int) -> Tensor:
    """Return (..., T) with both edges mirrored, as ``F.pad`` with ``mode="reflect"`` gives it.

    Put together of slices, since the gradient of that padding has no deterministic kernel on CUDA.

    Raises:
        ValueError: if there are not more frames than are to be mirrored.
    """
    if max(before, after) >= x.shape[-1]:
        raise ValueError(
            f"{x.shape[-1]} frames cannot be mirrored by {before} and {after}: there must be more of them."
        )
    if not before and not after:
        return x
    mirrored: Tensor = _Reflect.apply(x, before, after)  # type: ignore[no-untyped-call]
    return mirrored


class _Reflect(torch.autograd.Function):
    """One gradient for all of it, which is added to others in the order of torch's own padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, before: int, after: int) -> Tensor:  # noqa: ANN401 - torch adds the attributes
        ctx.sizes = before, after
        return torch.cat([x[..., 1 : before + 1].flip(-1), x, x[..., -after - 1 : -1].flip(-1)], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - torch adds the attributes
        (before, after), (given,) = ctx.sizes, gradients
        frames = given.shape[-1] - before - after
        moved = given[..., before : before + frames].clone()
        moved[..., 1 : before + 1] += given[..., :before].flip(-1)
        moved[..., frames - after - 1 : frames - 1] += given[..., before + frames :].flip(-1)
        return moved, None, None
