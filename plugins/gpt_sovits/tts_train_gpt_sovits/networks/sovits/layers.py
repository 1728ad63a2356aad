"""Layers that several networks share: norms, the gated stack, and attention that knows near distances.

Tensors are (B, C, T): utterances, channels, frames. A mask is (B, 1, T), 1 on frames and 0 on padding.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tts_train_gpt_sovits.signal.frames import additive_mask, attend

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


class RelativeAttention(nn.Module):
    """Self-attention with learned keys and values for distances up to ``window``, shared by the heads.

    Shaw et al. 2018 (arXiv 1803.02155).

    Args:
        channels: Channels in and out.
        heads: Heads.
        window: Largest distance with a key and a value of its own.
        dropout: Share of attention weights dropped in training.
    """

    def __init__(self, channels: int, *, heads: int, window: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.dropout = dropout
        width = channels // heads
        self.relative_keys = nn.Parameter(torch.randn(1, 2 * window + 1, width) * width**-0.5)
        self.relative_values = nn.Parameter(torch.randn(1, 2 * window + 1, width) * width**-0.5)
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.value = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, channels, 1)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return what each frame of ``x`` (B, C, T) gathers from the frames that ``mask`` keeps."""
        # The values of near distances need the weights themselves, which a fused kernel does not give.
        width = x.shape[1] // self.heads
        query = split_heads(self.query(x), self.heads) * width**-0.5
        key, value = split_heads(self.key(x), self.heads), split_heads(self.value(x), self.heads)
        near = query @ self.relative_keys.transpose(1, 2)
        scores = query @ key.transpose(2, 3) + spread(near)
        # Upstream fills in -1e4; after the softmax both are 0.
        scores = scores.masked_fill(mask[:, None] == 0, -torch.inf)
        weights = F.dropout(torch.softmax(scores, dim=-1), self.dropout, self.training)
        gathered = weights @ value + gather(weights, self.window) @ self.relative_values
        joined: Tensor = self.output(join_heads(gathered))
        return joined


class FeedForward(nn.Module):
    """Two convolutions over masked frames with a ReLU between them."""

    def __init__(self, channels: int, hidden: int, *, kernel: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.widen = nn.Conv1d(channels, hidden, kernel, padding=kernel // 2)
        self.narrow = nn.Conv1d(hidden, channels, kernel, padding=kernel // 2)
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, C, T), 0 on padding."""
        hidden = F.dropout(F.relu(self.widen(x * mask)), self.dropout, self.training)
        # Masked before each convolution: its kernel would carry padding into the last frames.
        narrowed: Tensor = self.narrow(hidden * mask) * mask
        return narrowed


class RelativeEncoder(nn.Module):
    """Layers of attention and convolution, each followed by its norm.

    Args:
        channels: Channels in and out.
        hidden: Channels inside the convolutions.
        heads: Attention heads.
        layers: How many layers.
        kernel: Kernel of the convolutions, odd.
        dropout: Dropout of weights, hidden channels and outputs.
    """

    def __init__(
        self, channels: int, *, hidden: int, heads: int, layers: int, kernel: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        # Lists by kind rather than by layer: optimiser states of the released format follow this order.
        self.attentions = nn.ModuleList(
            RelativeAttention(channels, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.attention_norms = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.feed_forwards = nn.ModuleList(
            FeedForward(channels, hidden, kernel=kernel, dropout=dropout) for _ in range(layers)
        )
        self.feed_forward_norms = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, C, T), 0 on padding."""
        x = x * mask
        # Norms after the sums, as upstream's VITS has them.
        layers = zip(self.attentions, self.attention_norms, self.feed_forwards, self.feed_forward_norms, strict=True)
        for attention, attention_norm, feed_forward, feed_forward_norm in layers:
            x = attention_norm(x + self.dropout(attention(x, mask)))
            x = feed_forward_norm(x + self.dropout(feed_forward(x, mask)))
        return x * mask


class CrossAttention(nn.Module):
    """Attention of one sequence on another, without positions."""

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.value = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, channels, 1)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
        """Return what each frame of ``x`` gathers from the positions of ``other`` that its mask keeps."""
        query, key, value = (
            split_heads(made, self.heads) for made in (self.query(x), self.key(other), self.value(other))
        )
        gathered = attend(query, key, value, additive_mask(other_mask[:, None] != 0, query))
        joined: Tensor = self.output(join_heads(gathered))
        return joined


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (B, C, T) as (B, heads, T, C / heads)."""
    batch, channels, frames = x.shape
    return x.reshape(batch, heads, channels // heads, frames).transpose(2, 3)


def join_heads(x: Tensor) -> Tensor:
    """Return (B, heads, T, width) as (B, heads * width, T)."""
    return x.transpose(2, 3).flatten(1, 2)


def spread(near: Tensor) -> Tensor:
    """Lay values of distances, (B, heads, T, 2w + 1) for j - i = -w..w, on the diagonals of (B, heads, T, T)."""
    frames, distances = near.shape[-2:]
    # Rows one longer than they are read back at: each row slides one further to the right than the row above.
    width = frames + distances - 1
    flat = F.pad(near, (0, width + 1 - distances)).flatten(2)[..., : frames * width]
    slid: Tensor = flat.reshape(*near.shape[:3], width)
    return slid[..., distances // 2 : distances // 2 + frames]


def gather(weights: Tensor, window: int) -> Tensor:
    """Read the diagonals j - i = -w..w of (B, heads, T, T) as (B, heads, T, 2w + 1); 0 beyond the edges."""
    frames = weights.shape[-1]
    padded = F.pad(weights, (window, window)).flatten(2)
    slid: Tensor = F.pad(padded, (0, frames)).view(*weights.shape[:3], frames + 2 * window + 1)
    return slid[..., : 2 * window + 1]
