"""Spectrograms and log mel spectrograms as every version reads them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tts_train.nn.tables import kept_table
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
    places = torch.arange(-pad, waves.shape[-1] + pad, device=waves.device).abs()
    last = lengths[:, None] - 1
    reflected = torch.where(places > last, 2 * last - places, places).clamp(min=0)
    waves = waves if waves.dtype == torch.float64 else waves.float()
    return _magnitudes(waves.gather(1, reflected), settings)


def log_mel(magnitudes: Tensor, settings: MelSettings = GAN_MEL) -> Tensor:
    """Return the natural log of the mel bands, (B, n_mels, T), of magnitudes (B, bins, T); at least log(1e-5)."""
    bands = _bands_on(settings, magnitudes.device, magnitudes.dtype)
    with full_precision(magnitudes):
        return torch.log((bands @ magnitudes).clamp(min=1e-5))


def wave_log_mel(wave: Tensor, settings: MelSettings = GAN_MEL) -> Tensor:
    """Return the log mel spectrogram (B, n_mels, N // hop) of samples (B, N)."""
    return log_mel(spectrogram(wave, settings), settings)


def normalise(mel: Tensor) -> Tensor:
    """Return a log mel spectrogram as the flow-matching versions read it: -12 and 2 become -1 and 1."""
    return (mel + 12.0) / 7.0 - 1.0


def denormalise(mel: Tensor) -> Tensor:
    """Return the log mel spectrogram that ``normalise`` was given."""
    return (mel + 1.0) * 7.0 - 12.0


@kept_table
def mel_bands(settings: MelSettings) -> Tensor:
    """Return the triangular bands (n_mels, n_fft / 2 + 1), float32, each of area 2 / its width in Hz.

    The scale is Slaney's (Auditory Toolbox, 1998): linear to 1,000 Hz, logarithmic above.
    """
    top = _hz_to_mel(torch.tensor(settings.sample_rate / 2, dtype=torch.float64))
    edges = _mel_to_hz(torch.linspace(0.0, float(top), settings.n_mels + 2, dtype=torch.float64))
    frequencies = torch.linspace(0.0, settings.sample_rate / 2, settings.n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    return (triangles * 2.0 / (high - low)).float()


@kept_table
def _bands_on(settings: MelSettings, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the bands where they are used, so that they travel to a device once."""
    return mel_bands(settings).to(device, dtype)


def _magnitudes(wave: Tensor, settings: MelSettings) -> Tensor:
    """Return the magnitudes of samples that are padded already."""
    # Not torch.stft: the gradient of its overlapping frames is added up in any order on CUDA; that of these is not.
    frames = wave.unfold(-1, settings.n_fft, settings.hop_length) * _window(settings.n_fft, wave.device).to(wave.dtype)
    bins = torch.fft.rfft(frames).transpose(-2, -1)
    made: Tensor = (bins.real.square() + bins.imag.square() + 1e-8).sqrt()
    return made


_LINEAR_HZ = 200.0 / 3.0  # Hz of a mel below 1,000 Hz
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ
_LOG_STEP = torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27.0


def _hz_to_mel(hz: Tensor) -> Tensor:
    above = _KNEE_MEL + torch.log((hz / _KNEE_HZ).clamp(min=1.0)) / _LOG_STEP
    return torch.where(hz < _KNEE_HZ, hz / _LINEAR_HZ, above)


def _mel_to_hz(mel: Tensor) -> Tensor:
    above = _KNEE_HZ * torch.exp((mel - _KNEE_MEL).clamp(min=0.0) * _LOG_STEP)
    return torch.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, above)


@kept_table
def _window(samples: int, device: torch.device) -> Tensor:
    return torch.hann_window(samples, device=device)
