"""The losses of the adversarial versions; 16-bit inputs are summed in float32, float64 stays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from tts_train_gpt_sovits.networks.sovits.discriminators import Critics, Judgement
from tts_train_gpt_sovits.networks.sovits.generator import slice_frames
from tts_train_gpt_sovits.networks.sovits.network import GeneratedSlice
from tts_train_gpt_sovits.signal.mel import log_mel, wave_log_mel

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
    critics.requires_grad_(False)
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
    target = log_mel(slice_frames(spectrum, made.starts, frames))
    return target, wave_log_mel(made.audio[:, 0])


def divergence(made: GeneratedSlice) -> Tensor:
    """Return the divergence between posterior and prior."""
    return kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask)
