"""The flow-matching versions' estimator: a diffusion transformer over mel frames (F5-TTS, arXiv 2410.06885).

Shapes: B utterances, T mel frames, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tts_train_gpt_sovits.signal.frames import additive_mask, attend

_TIME_WIDTH = 256
_NORM_EPSILON = 1e-6


class TimeEmbedding(nn.Module):
    """A number in [0, 1] to D channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(_TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """Return (B, D) of times (B,)."""
        half = _TIME_WIDTH // 2
        steps = torch.arange(half, device=time.device, dtype=time.dtype)
        # Times lie in [0, 1], and these sines were made for step numbers up to 1,000.
        angles = 1000.0 * time[:, None] * torch.exp(steps * (-math.log(10000.0) / (half - 1)))
        embedded: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return embedded


class ResponseNorm(nn.Module):
    """Channels weighed by their share of the energy over time (ConvNeXt V2, arXiv 2301.00808)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1, 1, width))
        self.shift = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D)."""
        # Over time, padding included: the released networks saw no mask here.
        energy = x.norm(dim=1, keepdim=True)
        share = energy / (energy.mean(dim=-1, keepdim=True) + _NORM_EPSILON)
        weighed: Tensor = self.scale * (x * share) + self.shift + x
        return weighed


class ContentBlock(nn.Module):
    """One residual block over the content frames."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=_NORM_EPSILON)
        self.widen = nn.Linear(width, hidden)
        self.response = ResponseNorm(hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D)."""
        hidden = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        narrowed: Tensor = self.narrow(self.response(F.gelu(self.widen(hidden))))
        return x + narrowed


class PositionConvolution(nn.Module):
    """Two wide grouped convolutions that tell frames their place."""

    def __init__(self, width: int, *, kernel: int = 31, groups: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            # Attention knows places by rotation in its first head alone; these convolutions tell the others.
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D)."""
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = F.mish(layer(x))
        return x.transpose(1, 2)


class Attention(nn.Module):
    """Attention over the frames that a mask keeps."""

    def __init__(self, width: int, *, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, added: Tensor, angles: Tensor) -> Tensor:
        """Return (B, T, D), 0 on padding.

        ``mask`` is bool (B, T), ``added`` the same as it is added to scores, ``angles`` (T, rotated channels / 2).
        """
        query, key = rotate(self.query(x), angles), rotate(self.key(x), angles)
        query, key, value = (
            each.view(*each.shape[:2], self.heads, -1).transpose(1, 2) for each in (query, key, self.value(x))
        )
        gathered = attend(query, key, value, added)
        output: Tensor = self.dropout(self.output(gathered.transpose(1, 2).flatten(2)))
        # As in F5-TTS: what rows of padding gather stays out of the sums.
        return output.masked_fill(~mask[:, :, None], 0.0)


class EstimatorBlock(nn.Module):
    """Attention and a feed-forward layer, both scaled, shifted and gated by the time."""

    def __init__(self, width: int, *, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        _zero(self.modulation)
        self.attention = Attention(width, heads=heads, head_width=head_width, dropout=dropout)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time: Tensor, mask: Tensor, added: Tensor, angles: Tensor) -> Tensor:
        """Return (B, T, D); ``time`` is (B, D)."""
        shift, scale, gate, late_shift, late_scale, late_gate = self.modulation(F.silu(time))[:, None].chunk(6, dim=-1)
        x = x + gate * self.attention(_plain_norm(x) * (1 + scale) + shift, mask, added, angles)
        hidden = F.gelu(self.widen(_plain_norm(x) * (1 + late_scale) + late_shift), approximate="tanh")
        moved: Tensor = x + late_gate * self.narrow(self.dropout(hidden))
        return moved


class Rotation(nn.Module):
    """The angles that frames turn by (Su et al. 2021, arXiv 2104.09864)."""

    rates: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A buffer, since the released files hold it.
        self.register_buffer("rates", 10000.0 ** -(torch.arange(0, channels, 2).float() / channels))

    def forward(self, frames: int) -> Tensor:
        """Return float32 angles (frames, channels / 2)."""
        return torch.arange(frames, device=self.rates.device)[:, None] * self.rates.float()


class Estimator(nn.Module):
    """The velocity of noisy mel frames, given time, step size, prompt and content.

    Args:
        width: Channels inside.
        depth: Blocks.
        heads: Attention heads.
        head_width: Channels of a head.
        widening: Feed-forward channels for each channel.
        content: Channels of the content frames.
        content_blocks: Blocks over the content frames.
        mels: Mel bands.
        dropout: Dropout of the blocks.
    """

    def __init__(
        self,
        *,
        width: int = 1024,
        depth: int = 22,
        heads: int = 16,
        head_width: int = 64,
        widening: int = 2,
        content: int = 512,
        content_blocks: int = 4,
        mels: int = 100,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.step = TimeEmbedding(width)
        self.content_blocks = nn.ModuleList(ContentBlock(content, 2 * content) for _ in range(content_blocks))
        self.input = nn.Linear(2 * mels + content, width)
        self.position = PositionConvolution(width)
        self.rotation = Rotation(head_width)
        self.blocks = nn.ModuleList(
            EstimatorBlock(width, heads=heads, head_width=head_width, hidden=widening * width, dropout=dropout)
            for _ in range(depth)
        )
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, mels)
        self.checkpointing = False
        """Whether blocks are computed again in backward rather than kept."""
        for linear in (self.modulation, self.output):
            _zero(linear)

    def forward(
        self,
        noisy: Tensor,
        prompt: Tensor,
        mask: Tensor,
        time: Tensor,
        step: Tensor,
        content: Tensor,
        *,
        unguided: bool = False,
    ) -> Tensor:
        """Return velocities (B, mels, T).

        Args:
            noisy: Mel frames on their way (B, mels, T).
            prompt: Known mel frames, 0 elsewhere (B, mels, T).
            mask: bool (B, T), True on frames.
            time: Where on the way, (B,) in [0, 1].
            step: How far the answer is for, (B,); 0 for the tangent.
            content: Content frames (B, content, T).
            unguided: Whether prompt and content are hidden, for classifier-free guidance.
        """
        if unguided:
            # Guidance compares with an answer that knows neither what is said nor by whom.
            prompt, content = torch.zeros_like(prompt), torch.zeros_like(content)
        # The step's size is embedded beside the time: one network answers for the tangent and for long steps.
        condition = self.time(time) + self.step(step)
        frames = content.transpose(1, 2)
        # Content has places of its own, as a text has in F5-TTS.
        frames = frames + _positions(frames.shape[1], frames.shape[2], frames)
        for content_block in self.content_blocks:
            frames = content_block(frames)
        x = self.input(torch.cat([noisy.transpose(1, 2), prompt.transpose(1, 2), frames], dim=-1))
        x = x + self.position(x)
        angles = self.rotation(x.shape[1])
        # Made once for all blocks.
        added = additive_mask(mask[:, None, None], x)
        again = self.checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            inputs = (x, condition, mask, added, angles)
            x = checkpoint(block, *inputs, use_reentrant=False) if again else block(*inputs)
        scale, shift = self.modulation(F.silu(condition))[:, None].chunk(2, dim=-1)
        velocity: Tensor = self.output(_plain_norm(x) * (1 + scale) + shift)
        return velocity.transpose(1, 2)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring channels of (B, T, D) by ``angles`` (T, R / 2); only the first R channels turn.

    The released networks turn the channels before they are split into heads, so only the first head knows places.
    """
    turned = x[..., : 2 * angles.shape[-1]].reshape(*x.shape[:-1], -1, 2)
    sine, cosine = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    even, odd = turned.unbind(-1)
    pairs = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1)
    return torch.cat([pairs.flatten(-2), x[..., 2 * angles.shape[-1] :]], dim=-1)


def _positions(frames: int, width: int, like: Tensor) -> Tensor:
    """Return cosines, then sines, of each place, (frames, width)."""
    rates = 10000.0 ** -(torch.arange(0, width, 2, device=like.device).float() / width)
    angles = torch.arange(frames, device=like.device).float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(like.dtype)


def _zero(layer: nn.Linear) -> None:
    """Make a layer start at 0, so that a fresh block is the identity (arXiv 2212.09748)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_NORM_EPSILON)
