"""Signal processing of the small codec: what its encoder hears, and sound from pulses and noise with shaped spectra.

The voice is modelled as a pulse train and white noise, each filtered frame by frame (source and filter: Fant 1960;
with a network that gives the filters: Engel et al. 2020, arXiv 2001.04643), so that codes need not hold any phase.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.contract import wide_type
from tts_train.nn import mel_triangles
from tts_train_orpheus.layout import FRAME_SAMPLES, SAMPLE_RATE

STEP = 512
"""Samples in a step of the finest level: a quarter of a frame."""
HOP = 256
"""Samples between spectra: two in a step, each centred on its own 256 samples."""
N_FFT = 1024
BINS = N_FFT // 2 + 1
MELS = 80
LOW_FFT, LOW_BINS = 2048, slice(5, 97)
"""The encoder finds the pitch in the bins from 59 to 1125 Hz of longer spectra."""
PITCHES, LOWEST_PITCH, HIGHEST_PITCH = 64, 75.0, 450.0
"""It also gets how well each of these pitches, even on a log scale, explains the spectrum."""
FEATURES = 2 * MELS + LOW_BINS.stop - LOW_BINS.start + PITCHES
FLOOR = 1e-2
"""Magnitude below which spectra do not count; a full-scale sine has N_FFT / 4."""
ANCHOR = 2 * FRAME_SAMPLES
"""Pitch is bent so that the pulses begin anew every 4096 samples, which makes their phase a local matter: a voice at
200 Hz is out of tune by 0.9 % on average where all of it is voiced, and sound can be decoded in windows."""
HIGHEST = 11_000.0
"""Pulses hold the harmonics up to here, in Hz."""
_UNVOICED_BEND = 20.0
"""How much more a sample without voice takes of the bend."""


def features(waves: Tensor) -> Tensor:
    """Return [B, T, FEATURES] of [B, T * STEP] samples: two log mel spectra, a narrow one and pitches a step."""
    batch, steps = waves.shape[0], waves.shape[1] // STEP
    mels = (magnitudes(waves, N_FFT, HOP) @ mel_filters(MELS, N_FFT).to(waves.device)).reshape(batch, steps, 2 * MELS)
    narrow = magnitudes(waves, LOW_FFT, STEP)
    logs = torch.log(torch.cat((mels, narrow[..., LOW_BINS]), dim=-1) + FLOOR)
    return torch.cat((logs, pitch_scores(narrow)), dim=-1)


def pitch_scores(narrow: Tensor) -> Tensor:
    """Return [..., PITCHES] of magnitudes [..., LOW_FFT / 2 + 1]: the autocorrelation at each pitch's period.

    Magnitudes are compressed to a power of 0.6 (Tolonen and Karjalainen 2000, doi 10.1109/89.876309), which sharpens
    its peaks.
    """
    # The floor keeps silence from having a pitch.
    correlation = torch.fft.irfft((narrow + FLOOR) ** 0.6, LOW_FFT)
    octaves = math.log2(HIGHEST_PITCH / LOWEST_PITCH)
    periods = SAMPLE_RATE / LOWEST_PITCH * 2 ** -torch.linspace(0, octaves, PITCHES, device=narrow.device)
    below = periods.floor().long()
    share = periods - below
    between = correlation[..., below] * (1 - share) + correlation[..., below + 1] * share
    scores: Tensor = between / correlation[..., :1]
    return scores


def magnitudes(waves: Tensor, size: int, hop: int) -> Tensor:
    """Return [B, T, size // 2 + 1] magnitudes of [B, T * hop] samples; spectrum t is centred on t * hop + hop / 2."""
    found: Tensor = spectra(waves, size, hop).abs()
    return found


def spectra(waves: Tensor, size: int, hop: int) -> Tensor:
    """Return [B, T, size // 2 + 1] complex spectra of [B, T * hop] samples under a Hann window."""
    # So that each spectrum is centred on its own samples, and frames decode in windows as in the whole clip.
    edge = (size - hop) // 2
    windows = F.pad(waves, (edge, edge)).unfold(1, size, hop)
    found: Tensor = torch.fft.rfft(windows * torch.hann_window(size, device=waves.device))
    return found


def sound_of(frames: Tensor) -> Tensor:
    """Return [B, T * HOP] samples of [B, T, BINS] complex spectra: the inverse of ``spectra`` but for both ends."""
    batch, count, _ = frames.shape
    parts = torch.fft.irfft(frames, N_FFT) * torch.hann_window(N_FFT, device=frames.device)
    overlap = N_FFT // HOP
    pieces = parts.reshape(batch, count, overlap, HOP)
    summed = sum(F.pad(pieces[:, :, k], (0, 0, k, overlap - 1 - k)) for k in range(overlap))
    assert isinstance(summed, Tensor)
    edge = (N_FFT - HOP) // 2
    # Squared Hann windows at a quarter of their length sum to 1.5.
    return summed.reshape(batch, -1)[:, edge : edge + count * HOP] / 1.5


def pulses(cycles: Tensor, pitch: Tensor, voice: Tensor) -> Tensor:
    """Return a train of pulses: every harmonic below ``HIGHEST`` with amplitude 1, where there is a voice.

    Args:
        cycles: [B, N] phase of each sample, in cycles.
        pitch: [B, N] in Hz.
        voice: [B, N] amplitude from 0 to 1.
    """
    # Whole cycles go first: far into a clip float32 would have no digits left for the phase.
    half = math.pi * (cycles - cycles.floor()).float()
    harmonics = (HIGHEST / pitch).floor() + 0.5
    # The sum of cos(h x) for h = 1 .. H is sin((H + 1/2) x) / (2 sin(x / 2)) - 1/2.
    below = 2 * half.sin()
    # There the quotient is 0 / 0, and its limit H + 1/2 is taken.
    at_pulse = below.abs() < 2e-3
    train = torch.where(at_pulse, harmonics, (2 * harmonics * half).sin() / below.masked_fill(at_pulse, 1.0))
    return (train - 0.5) * voice


def to_samples(values: Tensor) -> Tensor:
    """Interpolate [B, T] values at the centres of hops to [B, T * HOP] samples."""
    return F.interpolate(values[:, None], scale_factor=HOP, mode="linear", align_corners=False)[:, 0]


def anchored_cycles(pitch: Tensor, voice: Tensor, first_frame: int) -> Tensor:
    """Return [B, N] phases, in cycles, that are whole numbers at each multiple of ``ANCHOR`` in the clip.

    The bend that this takes falls on samples without voice first. ``first_frame`` is the number of the frame in its
    clip with which the sound begins.
    """
    batch, count = pitch.shape
    before = first_frame * FRAME_SAMPLES % ANCHOR
    after = -(before + count) % ANCHOR
    pitch, voice = (values.to(wide_type(values.device)) for values in (pitch, voice))
    steps = F.pad(pitch / SAMPLE_RATE, (before, after)).reshape(batch, -1, ANCHOR)
    # Where there is no voice nobody hears that the pitch is bent.
    ease = F.pad(1 + _UNVOICED_BEND * (1 - voice), (before, after)).reshape(batch, -1, ANCHOR)
    total = steps.sum(-1, keepdim=True)
    bent = steps + (total.round() - total) * ease / ease.sum(-1, keepdim=True)
    return bent.cumsum(-1).reshape(batch, -1)[:, before : before + count]


@lru_cache(maxsize=8)
def mel_filters(count: int, size: int) -> Tensor:
    """Return [size // 2 + 1, count] triangles on the mel scale (O'Shaughnessy 1987) from 0 Hz to half the rate."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, size // 2 + 1)
    triangles = torch.from_numpy(mel_triangles(SAMPLE_RATE, count, "htk", frequencies)).T
    # Each band is a mean and not a sum, so that wide ones are not louder.
    return (triangles / triangles.sum(0).clamp(min=1e-9)).float()


@lru_cache(maxsize=8)
def band_curves(count: int) -> Tensor:
    """Return [count, BINS] weights that draw a curve over the bins through values at points even on the mel scale."""
    places = _to_mel(torch.linspace(0, SAMPLE_RATE / 2, BINS, dtype=torch.float64)) / _to_mel(SAMPLE_RATE / 2)
    distance = (places[None] * (count - 1) - torch.arange(count, dtype=torch.float64)[:, None]).abs()
    return (1 - distance).clamp(min=0).float()


def _to_mel(hertz: Tensor | float) -> Tensor:
    return 2595 * torch.log10(1 + torch.as_tensor(hertz, dtype=torch.float64) / 700)
