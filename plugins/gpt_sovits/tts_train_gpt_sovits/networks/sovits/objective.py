"""What the generator of the adversarial versions is trained for, in its parts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from tts_train_gpt_sovits.networks.sovits.discriminators import Critics
from tts_train_gpt_sovits.networks.sovits.generator import slice_frames
from tts_train_gpt_sovits.networks.sovits.losses import adversarial_loss, feature_loss, kl_loss, mel_loss
from tts_train_gpt_sovits.networks.sovits.network import Generated
from tts_train_gpt_sovits.signal.mel import log_mel, wave_log_mel


def generator_parts(
    critics: Critics, made: Generated, spectrum: Tensor, real: Tensor, *, c_mel: float, c_kl: float, frames: int
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


def mels(made: Generated, spectrum: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Return log mel spectrograms (B, 128, frames) of the recordings' slices and of what was made of them."""
    target = log_mel(slice_frames(spectrum, made.starts, frames))
    return target, wave_log_mel(made.audio[:, 0])


def divergence(made: Generated) -> Tensor:
    """Return the divergence between posterior and prior."""
    return kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask)
