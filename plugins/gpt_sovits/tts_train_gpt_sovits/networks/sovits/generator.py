"""Latents to waveform: upsampling and residual convolutions (HiFi-GAN, Kong et al. 2020, arXiv 2010.05646)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tts_train_gpt_sovits.networks.sovits.layers import weight_norm

SLOPE = 0.1


class ResidualBlock(nn.Module):
    """Pairs of convolutions, the first of each pair dilated."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2))
            for d in dilations
        )
        self.plain = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, channels, kernel, padding=kernel // 2)) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, T)."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            inner = dilated(F.leaky_relu(x, SLOPE))
            x = x + plain(F.leaky_relu(inner, SLOPE, inplace=True))
        return x


class WaveGenerator(nn.Module):
    """Latents to samples.

    Args:
        latent: Channels of the latents.
        channels: Channels before the first upsampling; each halves them.
        rates: Factor of each upsampling; their product is the hop.
        upsample_kernels: Kernel of each upsampling.
        kernels: Kernels of the residual blocks after each upsampling.
        dilations: Dilations of each of these blocks.
        condition: Channels of the style.
    """

    def __init__(
        self,
        latent: int,
        *,
        channels: int,
        rates: Sequence[int],
        upsample_kernels: Sequence[int],
        kernels: Sequence[int],
        dilations: Sequence[Sequence[int]],
        condition: int,
    ) -> None:
        super().__init__()
        self.hop = math.prod(rates)
        self.input = nn.Conv1d(latent, channels, 7, padding=3)
        self.upsamplings = nn.ModuleList(
            weight_norm(
                nn.ConvTranspose1d(channels >> i, channels >> (i + 1), kernel, rate, padding=(kernel - rate) // 2)
            )
            for i, (rate, kernel) in enumerate(zip(rates, upsample_kernels, strict=True))
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(channels >> (i + 1), kernel, each)
            for i in range(len(rates))
            for kernel, each in zip(kernels, dilations, strict=True)
        )
        # Not weight-normed and without a bias, as in the released files.
        self.output = nn.Conv1d(channels >> len(rates), 1, 7, padding=3, bias=False)
        self.condition = nn.Conv1d(condition, channels, 1)
        self.checkpointing = False
        """Whether blocks are computed again in backward rather than kept."""

    def forward(self, latents: Tensor, style: Tensor) -> Tensor:
        """Return samples (B, 1, T * hop) in [-1, 1] of latents (B, latent, T)."""
        # The style enters once, before the first upsampling.
        x = self.input(latents) + self.condition(style)
        each = len(self.blocks) // len(self.upsamplings)
        for i, upsampling in enumerate(self.upsamplings):
            x = upsampling(F.leaky_relu(x, SLOPE, inplace=True))
            total = self._block(i * each, x)
            for number in range(i * each + 1, (i + 1) * each):
                total = total + self._block(number, x)
            x = total / each
        # The last slope is the default one in the released networks, not that of the others.
        return torch.tanh(self.output(F.leaky_relu(x, inplace=True)))

    def _block(self, number: int, x: Tensor) -> Tensor:
        block = self.blocks[number]
        again = self.checkpointing and torch.is_grad_enabled()
        # Nothing in a block is drawn, so no random state has to be kept for it.
        made: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if again else block(x)
        return made


def slice_frames(x: Tensor, starts: Tensor, frames: int) -> Tensor:
    """Return ``frames`` frames of each row of (B, C, T) from its start in ``starts`` (B,)."""
    index = starts[:, None] + torch.arange(frames, device=x.device)
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))


def random_starts(lengths: Tensor, frames: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Return int64 starts (B,), each even over the places where ``frames`` frames fit; 0 where none does."""
    places = (lengths - frames + 1).clamp(min=1)
    drawn = torch.rand(lengths.shape, generator=generator, device=lengths.device)
    # A product and a floor instead of randint, whose bound cannot differ from row to row.
    return (drawn * places).long()
