"""Spectrograms and log mel spectrograms as every version reads them, and the way back to samples without a vocoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.nn import kept_table, mel_triangles
from tts_train_gpt_sovits.signal.frames import full_precision, reflect


@dataclass(frozen=True)
class MelSettings:
    """How a log mel spectrogram is computed."""

    sample_rate: int = 32000
    """Samples a second."""
    n_fft: int = 2048
    """Samples of a frame and of its window."""
    hop_length: int = 640
    """Samples from a frame to the next."""
    n_mels: int = 128
    """Mel bands, from 0 Hz to half the sample rate."""


GAN_MEL = MelSettings()
V3_MEL = MelSettings(sample_rate=24000, n_fft=1024, hop_length=256, n_mels=100)
V4_MEL = MelSettings(sample_rate=32000, n_fft=1280, hop_length=320, n_mels=100)


def spectrogram(wave: Tensor, settings: MelSettings = GAN_MEL) -> Tensor:
    """Return magnitudes (B, n_fft / 2 + 1, N // hop) of samples (B, N).

    16-bit samples are widened to float32.
    The edges are reflected by (n_fft - hop) / 2 samples, so N samples give N // hop frames.
    """
    pad = (settings.n_fft - settings.hop_length) // 2
    wave = wave if wave.dtype == torch.float64 else wave.float()
    return _magnitudes(reflect(wave, pad, pad), settings)


def batch_spectrogram(waves: Tensor, lengths: Tensor, settings: MelSettings = GAN_MEL) -> Tensor:
    """Return what ``spectrogram`` gives for each row of padded samples (B, N) of ``lengths`` (B,), each alone.

    Frames past a row's end are not 0; each row must be longer than (n_fft - hop) / 2 samples.
    """
    pad = (settings.n_fft - settings.hop_length) // 2
    # Each row is mirrored at its own end: mirrored padding would put zeros into the last frames of shorter rows.
    places = torch.arange(-pad, waves.shape[-1] + pad, device=waves.device).abs()
    last = lengths[:, None] - 1
    reflected = torch.where(places > last, 2 * last - places, places).clamp(min=0)
    waves = waves if waves.dtype == torch.float64 else waves.float()
    return _magnitudes(waves.gather(1, reflected), settings)


def log_mel(magnitudes: Tensor, settings: MelSettings = GAN_MEL) -> Tensor:
    """Return the natural log of the mel bands, (B, n_mels, T), of magnitudes (B, bins, T); at least log(1e-5)."""
    bands = _bands_on(settings, magnitudes.device, magnitudes.dtype)
    with full_precision(magnitudes):
        # Upstream's floor; silence is -11.5 everywhere.
        return torch.log((bands @ magnitudes).clamp(min=1e-5))


def wave_log_mel(wave: Tensor, settings: MelSettings = GAN_MEL) -> Tensor:
    """Return the log mel spectrogram (B, n_mels, N // hop) of samples (B, N)."""
    return log_mel(spectrogram(wave, settings), settings)


def normalise(mel: Tensor) -> Tensor:
    """Return a log mel spectrogram as the flow-matching versions read it: -12 and 2 become -1 and 1."""
    # Upstream's bounds: -12 lies just below the floor of log(1e-5).
    return (mel + 12.0) / 7.0 - 1.0


def denormalise(mel: Tensor) -> Tensor:
    """Return the log mel spectrogram that ``normalise`` was given."""
    return (mel + 1.0) * 7.0 - 12.0


@kept_table
def mel_bands(settings: MelSettings) -> Tensor:
    """Return the triangular bands (n_mels, n_fft / 2 + 1), float32, each of area 2 / its width in Hz.

    The scale is Slaney's.
    """
    frequencies = np.linspace(0.0, settings.sample_rate / 2, settings.n_fft // 2 + 1)
    bands = mel_triangles(settings.sample_rate, settings.n_mels, "slaney", frequencies, of_area=True)
    return torch.from_numpy(bands).float()


@kept_table
def _bands_on(settings: MelSettings, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the bands where they are used, so that they travel to a device once."""
    return mel_bands(settings).to(device, dtype)


def _magnitudes(wave: Tensor, settings: MelSettings) -> Tensor:
    """Return the magnitudes of samples that are padded already."""
    # Not torch.stft: the gradient of its overlapping frames is added up in any order on CUDA; that of these is not.
    frames = wave.unfold(-1, settings.n_fft, settings.hop_length) * _window(settings.n_fft, wave.device).to(wave.dtype)
    bins = torch.fft.rfft(frames).transpose(-2, -1)
    # 1e-8 under the root, as upstream: its gradient at silence is finite (module/mel_processing.py).
    made: Tensor = (bins.real.square() + bins.imag.square() + 1e-8).sqrt()
    return made


@kept_table
def _window(samples: int, device: torch.device) -> Tensor:
    return torch.hann_window(samples, device=device)


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
