"""From what the transformer makes of frames to samples: two upsamplings of frames, then a network of snakes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_qwen3_tts.codec.layers import CausalConv, CausalUpsampling
from tts_train_qwen3_tts.codec.sizes import DecoderSizes


class SnakeBeta(nn.Module):
    """x + sin²(αx) / β for each channel (Ziyin et al. 2020, arXiv 2006.08195; BigVGAN's form, logs of α and β kept)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Take and return [B, width, T]."""
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x + (x * alpha).sin().square() / (beta + 1e-9)


class FrameMixer(nn.Module):
    """ConvNeXt (Liu et al. 2022, arXiv 2201.03545) over time, causal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = CausalConv(width, width, 7, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        # So small that an untrained block passes on what it gets.
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Take and return [B, width, T]."""
        changed: Tensor = self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(self.dwconv(x).mT))))
        return x + changed.mT


class FrameUpsampling(nn.Sequential):
    """[B, width, T] to [B, width, T * ratio]."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__(CausalUpsampling(width, width, ratio, ratio), FrameMixer(width))


class SnakeUnit(nn.Module):
    """A residual of a dilated convolution and one of single steps."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.act1, self.act2 = SnakeBeta(width), SnakeBeta(width)
        self.conv1 = CausalConv(width, width, 7, dilation=dilation)
        self.conv2 = CausalConv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Take and return [B, width, T]."""
        changed: Tensor = self.conv2(self.act2(self.conv1(self.act1(x))))
        return x + changed


class WaveBlock(nn.Module):
    """[B, width, T] to [B, width // 2, T * rate]."""

    def __init__(self, width: int, rate: int) -> None:
        super().__init__()
        inner = width // 2
        upsampling = CausalUpsampling(width, inner, 2 * rate, rate)
        self.block = nn.Sequential(
            SnakeBeta(width), upsampling, *(SnakeUnit(inner, dilation) for dilation in (1, 3, 9))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upsample."""
        y: Tensor = self.block(x)
        return y


def wave_layers(sizes: DecoderSizes) -> nn.Sequential:
    """Return the network of [B, latent_dim, T] to [B, 1, T * product of the rates]."""
    width = sizes.decoder_dim
    layers: list[nn.Module] = [CausalConv(sizes.latent_dim, width, 7)]
    for rate in sizes.upsample_rates:
        layers.append(WaveBlock(width, rate))
        width //= 2
    return nn.Sequential(*layers, SnakeBeta(width), CausalConv(width, 1, 7))
