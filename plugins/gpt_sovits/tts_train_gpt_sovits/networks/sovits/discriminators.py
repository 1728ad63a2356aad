"""The critics: one of the plain waveform and one of each period (HiFi-GAN, arXiv 2010.05646)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_gpt_sovits.networks.sovits.layers import weight_norm
from tts_train_gpt_sovits.signal.frames import reflect

SLOPE = 0.1
# Channels out, kernel, stride and groups of the waveform critic.
_SCALE = (
    (16, 15, 1, 1),
    (64, 41, 4, 4),
    (256, 41, 4, 16),
    (1024, 41, 4, 64),
    (1024, 41, 4, 256),
    (1024, 5, 1, 1),
)
_PERIOD = ((32, 3), (128, 3), (512, 3), (1024, 3), (1024, 1))  # channels out and stride of a period's critic


class Judgement(NamedTuple):
    """What one critic says."""

    scores: Tensor
    """(B, positions), near 1 for what it takes for a recording."""
    maps: list[Tensor]
    """What each layer saw, the scores last."""


class ScaleCritic(nn.Module):
    """Strided convolutions over the waveform."""

    def __init__(self, *, shrink: int = 1) -> None:
        super().__init__()
        inputs = [1, *(row[0] // shrink for row in _SCALE)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, groups=max(1, groups // shrink)))
            for before, after, (_, kernel, stride, groups) in zip(inputs, inputs[1:], _SCALE, strict=False)
        )
        self.output = weight_norm(nn.Conv1d(inputs[-1], 1, 3, padding=1))

    def forward(self, wave: Tensor) -> Judgement:
        """Judge samples (B, 1, N)."""
        return _judge(wave, self.layers, self.output)


class PeriodCritic(nn.Module):
    """Strided convolutions over every ``period``-th sample."""

    def __init__(self, period: int, *, shrink: int = 1) -> None:
        super().__init__()
        self.period = period
        inputs = [1, *(row[0] // shrink for row in _PERIOD)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), padding=(2, 0)))
            for before, after, (_, stride) in zip(inputs, inputs[1:], _PERIOD, strict=False)
        )
        self.output = weight_norm(nn.Conv2d(inputs[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> Judgement:
        """Judge samples (B, 1, N), N reflected up to a multiple of the period."""
        wave = reflect(wave, 0, -wave.shape[-1] % self.period)
        return _judge(wave.reshape(*wave.shape[:2], -1, self.period), self.layers, self.output)


class Critics(nn.Module):
    """All critics of a version.

    Args:
        periods: Period of each period critic.
        shrink: How many times fewer channels than the released critics have: 1 to 16, a power of 2.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), *, shrink: int = 1) -> None:
        super().__init__()
        self.shrink = shrink
        self.critics = nn.ModuleList(
            [ScaleCritic(shrink=shrink), *(PeriodCritic(period, shrink=shrink) for period in periods)]
        )

    def forward(self, wave: Tensor) -> list[Judgement]:
        """Judge samples (B, 1, N), critic by critic."""
        return [critic(wave) for critic in self.critics]

    def compare(self, real: Tensor, generated: Tensor) -> tuple[list[Judgement], list[Judgement]]:
        """Judge recordings and generated samples of one shape in one pass; the answers are those of two passes."""
        both = self(torch.cat([real, generated]))
        return [_half(each, 0) for each in both], [_half(each, 1) for each in both]


def _judge(x: Tensor, layers: nn.ModuleList, output: nn.Module) -> Judgement:
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE, inplace=True)  # nothing else reads what a layer gives
        maps.append(x)
    scores = output(x)
    return Judgement(scores.flatten(1), [*maps, scores])


def _half(judgement: Judgement, which: int) -> Judgement:
    return Judgement(judgement.scores.chunk(2)[which], [each.chunk(2)[which] for each in judgement.maps])
