"""The critics, one of the plain waveform and one of each period (HiFi-GAN, arXiv 2010.05646), and both sides' losses.

16-bit inputs are summed in float32; float64 stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from tts_train_gpt_sovits.networks.sovits.generator import slice_frames
from tts_train_gpt_sovits.networks.sovits.layers import weight_norm
from tts_train_gpt_sovits.networks.sovits.network import GeneratedSlice
from tts_train_gpt_sovits.signal.frames import reflect
from tts_train_gpt_sovits.signal.mel import log_mel, wave_log_mel

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
        # Shrunk critics keep kernels and strides, and so look at as much of the wave as the released ones.
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
        # Of our own making: the gradient of torch's reflection padding has no deterministic kernel on CUDA.
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
        # Critics have no norm over the batch, so one pass over both halves gives the same and starts half as many
        # kernels.
        both = self(torch.cat([real, generated]))
        return [_half(each, 0) for each in both], [_half(each, 1) for each in both]


def _judge(x: Tensor, layers: nn.ModuleList, output: nn.Module) -> Judgement:
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE, inplace=True)  # nothing else reads what a layer gives
        maps.append(x)
    scores = output(x)
    # The scores are a feature map as well, as in upstream's loss (module/models.py, module/losses.py).
    return Judgement(scores.flatten(1), [*maps, scores])


def _half(judgement: Judgement, which: int) -> Judgement:
    return Judgement(judgement.scores.chunk(2)[which], [each.chunk(2)[which] for each in judgement.maps])


MEL_WEIGHT = 45.0
KL_WEIGHT = 1.0


def critic_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Tensor:
    """Return the critics' least-squares loss (Mao et al. 2016, arXiv 1611.04076), summed over them."""
    return torch.stack([sum_pair(r, g) for r, g in zip(real, generated, strict=True)]).sum()


def sum_pair(real: Judgement, generated: Judgement) -> Tensor:
    """Return one critic's share: its squared error on recordings (wanted 1) and on generated samples (wanted 0)."""
    return mean_square(real.scores, 1.0) + mean_square(generated.scores, 0.0)


def mean_square(scores: Tensor, wanted: float) -> Tensor:
    """Return the mean squared distance of scores from ``wanted``."""
    return (_wide(scores) - wanted).square().mean()


def adversarial_loss(generated: Sequence[Judgement]) -> Tensor:
    """Return the generator's loss: how far the critics are from taking its samples for recordings."""
    return torch.stack([mean_square(each.scores, 1.0) for each in generated]).sum()


def feature_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Tensor:
    """Return twice the sum of the mean distances between the critics' feature maps; recordings get no gradient."""
    apart = [
        (_wide(r).detach() - _wide(g)).abs().mean()
        for one, other in zip(real, generated, strict=True)
        for r, g in zip(one.maps, other.maps, strict=True)
    ]
    return 2.0 * torch.stack(apart).sum()


def mel_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Return the mean distance of two log mel spectrograms, unweighted."""
    return F.l1_loss(_wide(generated), _wide(real))


def kl_loss(latents: Tensor, log_q: Tensor, mean_p: Tensor, log_p: Tensor, mask: Tensor) -> Tensor:
    """Return the divergence of posterior from prior at its own samples, summed over channels, a frame's mean.

    ``latents`` are the posterior's samples through the flow, ``log_q`` and ``log_p`` the log deviations.
    """
    latents, log_q, mean_p, log_p, mask = (_wide(each) for each in (latents, log_q, mean_p, log_p, mask))
    divergence = log_p - log_q - 0.5 + 0.5 * (latents - mean_p).square() * torch.exp(-2.0 * log_p)
    # Summed over 192 channels and divided by frames alone: --model.c_kl 1 is upstream's balance only with this
    # (module/losses.py).
    return (divergence * mask).sum() / mask.sum()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def generator_parts(
    critics: Critics, made: GeneratedSlice, spectrum: Tensor, real: Tensor, *, c_mel: float, c_kl: float, frames: int
) -> dict[str, Tensor]:
    """Return the weighted parts of the generator's loss; the critics' weights take no gradients from here on.

    Args:
        critics: After their own step.
        made: What the generator made.
        spectrum: Magnitudes (B, 1025, T) of the recordings.
        real: Slices of the recordings, (B, 1, frames * hop).
        c_mel: Weight of the mel distance.
        c_kl: Weight of the divergence.
        frames: Frames of a slice.
    """
    # Upstream lets this backward fill the critics' gradients and throws them away at the next step; here they are not
    # computed.
    critics.requires_grad_(False)
    # Length and direction are put together once for both passes.
    with parametrize.cached():
        with torch.no_grad():
            of_real = critics(real)
        of_made = critics(made.audio)
    return {
        "adversarial": adversarial_loss(of_made),
        "features": feature_loss(of_real, of_made),
        "mel": c_mel * mel_loss(*mels(made, spectrum, frames)),
        "kl": c_kl * divergence(made),
    }


def mels(made: GeneratedSlice, spectrum: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Return log mel spectrograms (B, 128, frames) of the recordings' slices and of what was made of them."""
    # A slice of the whole recording's spectrogram, whose frames at the edges see their neighbours; that of the
    # generated slice mirrors its edges. Upstream compares these two as well (s2_train.py).
    target = log_mel(slice_frames(spectrum, made.starts, frames))
    return target, wave_log_mel(made.audio[:, 0])


def divergence(made: GeneratedSlice) -> Tensor:
    """Return the divergence between posterior and prior."""
    return kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask)
