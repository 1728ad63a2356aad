"""The encoder whose attention knows the distance between near frames (Shaw et al. 2018, arXiv 1803.02155)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_gpt_sovits.networks.masked_attention import additive_mask, attend
from tts_train_gpt_sovits.networks.sovits.layers import ChannelNorm


class RelativeAttention(nn.Module):
    """Self-attention with learned keys and values for distances up to ``window``, shared by the heads.

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
