"""Mel spectrograms back to samples, where no vocoder is at hand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train_gpt_sovits.signal.frames import full_precision
from tts_train_gpt_sovits.signal.mel import MelSettings, mel_bands

ITERATIONS = 32


def mel_to_wave(log_mel: Tensor, settings: MelSettings) -> Tensor:
    """Return float32 samples (B, T * hop) of a log mel spectrogram (B, n_mels, T).

    Bins come from the bands by their pseudo-inverse, and phases by Griffin and Lim's iterations (1984) with momentum.
    Speech stays intelligible and sounds rougher than through a vocoder. Nothing is drawn: equal mels, equal samples.
    """
    from torchaudio.functional import griffinlim

    with full_precision(log_mel):
        bands = mel_bands(settings).to(log_mel.device)
        magnitudes = (torch.linalg.pinv(bands) @ log_mel.float().exp()).clamp(min=0.0)
        made: Tensor = griffinlim(
            magnitudes,
            window=torch.hann_window(settings.n_fft, device=log_mel.device),
            n_fft=settings.n_fft,
            hop_length=settings.hop_length,
            win_length=settings.n_fft,
            power=1.0,
            n_iter=ITERATIONS,
            momentum=0.99,
            length=None,
            rand_init=False,
        )
    # Its frames are centred on multiples of the hop, those of our spectrograms half a hop later.
    before = settings.hop_length // 2
    return F.pad(made, (before, settings.hop_length - before))
