"""The network and its sound: letters to spectra, spectra to waves. Imports torch only."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SAMPLE_RATE = 8000
TONE_SAMPLES = 800
LETTERS = 128
"""ASCII; other characters are hummed as a question mark."""


def letters(text: str) -> Tensor:
    """Turn a text into letter numbers, shape (T,)."""
    return torch.tensor([ord(c) if ord(c) < LETTERS else ord("?") for c in text], dtype=torch.long)


def pitch(letter: Tensor) -> Tensor:
    """Pitch of each letter in Hz: semitones up from 110 Hz, three octaves in all."""
    return 110.0 * 2.0 ** ((letter % 36) / 12.0)


def tone(letter: Tensor, bins: int) -> Tensor:
    """Spectrum that a letter should have: a bump at its pitch. Shape (..., bins), values 0 to 1."""
    centres = torch.linspace(0, 1000, bins)
    return torch.exp(-(((centres - pitch(letter)[..., None]) / 60.0) ** 2))


class ToyNetwork(nn.Module):
    """An embedding and a layer: letter numbers (B, T) to spectra (B, T, bins)."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(LETTERS, width)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, bins))

    def forward(self, letter: Tensor) -> Tensor:
        """Predict the spectra of letters."""
        spectra: Tensor = self.head(self.embed(letter))
        return spectra

    @torch.no_grad()
    def hum(self, text: str) -> Tensor:
        """Sound of a text, shape (800 x letters,), at 8 kHz: each letter's spectrum as a sum of sines."""
        spectra = self(letters(text)[None])[0].clamp(min=0)
        hertz = torch.linspace(0, 1000, spectra.shape[-1])
        time = torch.arange(TONE_SAMPLES) / SAMPLE_RATE
        wave = spectra @ torch.sin(2 * math.pi * hertz[:, None] * time)
        wave = wave.flatten()
        return 0.5 * wave / wave.abs().max().clamp(min=1e-6)
