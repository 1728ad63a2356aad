"""Parts that several networks of the stage share: masks, weight norm, channel norm and the gated stack.

Tensors are (B, C, T): utterances, channels, frames. A mask is (B, 1, T), 1 on frames and 0 on padding.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

M = TypeVar("M", bound=nn.Module)


def length_mask(lengths: Tensor, frames: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the mask (B, 1, frames) of utterances of ``lengths`` (B,) frames."""
    positions = torch.arange(frames, device=lengths.device)
    return (positions < lengths[:, None])[:, None].to(dtype)


def weight_norm(layer: M) -> M:
    """Split a layer's weight into a length per first axis and a direction, and return the layer.

    Weight normalization, Salimans and Kingma 2016 (arXiv 1602.07868).
    """
    parametrizations.weight_norm(layer)
    return layer


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with each frame's channels normalised."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class GatedStack(nn.Module):
    """A stack of gated convolutions with skip sums, as in WaveNet, told the speaker at every layer.

    Args:
        channels: Channels in and out.
        kernel: Kernel of the gated convolutions, odd.
        layers: How many of them.
        condition: Channels of the speaker's vector.
    """

    def __init__(self, channels: int, *, kernel: int, layers: int, condition: int) -> None:
        super().__init__()
        self.channels = channels
        self.gated = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels, kernel, padding=kernel // 2)) for _ in range(layers)
        )
        # The last layer feeds nothing further on, so it has no half for the residual path.
        widths = [2 * channels] * (layers - 1) + [channels]
        self.mixing = nn.ModuleList(weight_norm(nn.Conv1d(channels, width, 1)) for width in widths)
        self.condition = weight_norm(nn.Conv1d(condition, 2 * channels * layers, 1))

    def forward(self, x: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        """Return the masked sum of all layers' skips; ``style`` is (B, condition, 1)."""
        shifts = self.condition(style).chunk(len(self.gated), dim=1)
        last = len(self.gated) - 1
        total: Tensor | None = None
        for i, (gated, mixing, shift) in enumerate(zip(self.gated, self.mixing, shifts, strict=True)):
            signal, gate = (gated(x) + shift).chunk(2, dim=1)
            mixed = mixing(torch.tanh(signal) * torch.sigmoid(gate))
            skip = mixed if i == last else mixed[:, self.channels :]
            total = skip if total is None else total + skip
            if i < last:
                x = (x + mixed[:, : self.channels]) * mask
        assert total is not None
        return total * mask


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
