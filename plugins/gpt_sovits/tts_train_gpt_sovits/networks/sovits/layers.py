"""Layers that several networks share: weight norm, channel norm and the gated stack.

Tensors are (B, C, T): utterances, channels, frames. A mask is (B, 1, T), 1 on frames and 0 on padding.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

M = TypeVar("M", bound=nn.Module)


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
