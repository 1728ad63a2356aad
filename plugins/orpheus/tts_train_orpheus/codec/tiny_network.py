"""The small codec's networks: all of them work at 47 or 94 steps a second, never on samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_orpheus.codec import tiny_sound as sound
from tts_train_orpheus.layout import CODEBOOK_SIZE

WIDTH = 256
LATENT = 64
CODE_WIDTH = 16
STRIDES = (4, 2, 1)
"""Steps that a code of each level covers."""
GAIN_BANDS, NOISE_BANDS, TURN_BANDS = 128, 64, 64
_FIRST_PITCH = 200.0


class ConvBlock(nn.Module):
    """ConvNeXt (Liu et al. 2022, arXiv 2201.03545) over time, as Vocos has it; reaches ``kernel // 2`` steps."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.mix = nn.Parameter(torch.randn(width, kernel) * kernel**-0.5)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 3 * width)
        self.narrow = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """Take and return [B, T, width]."""
        near = (F.pad(x, (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1) * self.mix).sum(-1)
        changed: Tensor = self.scale * self.narrow(F.gelu(self.widen(self.norm(near))))
        return x + changed


class Encoder(nn.Module):
    """Log spectra to latents, both at 47 steps a second."""

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(sound.FEATURES), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(sound.FEATURES), requires_grad=False)
        self.enter = nn.Linear(sound.FEATURES, width)
        self.blocks = nn.Sequential(*(ConvBlock(width, 7) for _ in range(4)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, LATENT))

    def forward(self, features: Tensor) -> Tensor:
        """Take [B, T, FEATURES] and return [B, T, LATENT]."""
        latents: Tensor = self.leave(self.blocks(self.enter((features - self.mean) / self.spread)))
        return latents


class Level(nn.Module):
    """One codebook: some steps of the latents to one code, and back."""

    codebook: Tensor

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.down = nn.Linear(stride * LATENT, CODE_WIDTH)
        self.up = nn.Linear(CODE_WIDTH, stride * LATENT)
        self.register_buffer("codebook", torch.randn(CODEBOOK_SIZE, CODE_WIDTH))

    def project(self, latents: Tensor) -> Tensor:
        """Take [B, T, LATENT] and return [B, T / stride, CODE_WIDTH]."""
        batch, steps, width = latents.shape
        projected: Tensor = self.down(latents.reshape(batch, steps // self.stride, self.stride * width))
        return projected

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the codes [...] that are nearest to vectors [..., CODE_WIDTH]."""
        codebook = self.codebook.float()
        # The vector's own square is the same for all codes, so it is left out.
        return (codebook.square().sum(-1) - 2 * vectors.float() @ codebook.T).argmin(-1)

    def restore(self, vectors: Tensor) -> Tensor:
        """Take [B, T / stride, CODE_WIDTH] and return [B, T, LATENT]."""
        return self.up(vectors).reshape(vectors.shape[0], -1, LATENT)  # type: ignore[no-any-return]


class Quantiser(nn.Module):
    """Latents to codes of three levels, coarse to fine; each codes what those before it left over."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(stride) for stride in STRIDES)

    def encode(self, latents: Tensor) -> list[Tensor]:
        """Take [B, T, LATENT], T a multiple of 4, and return codes [B, T / stride] a level."""
        codes = []
        for level in self.levels:
            assert isinstance(level, Level)
            # Each level codes what those before it leave over, so coarse codes hold most of the sound.
            codes.append(level.nearest(level.project(latents)))
            latents = latents - level.restore(F.embedding(codes[-1], level.codebook))
        return codes

    def decode(self, codes: list[Tensor]) -> Tensor:
        """Return the latents [B, T, LATENT] that codes stand for."""
        parts = []
        for level, code in zip(self.levels, codes, strict=True):
            assert isinstance(level, Level)
            parts.append(level.restore(F.embedding(code, level.codebook)))
        return torch.stack(parts).sum(0)


class Filters(NamedTuple):
    """What the decoder makes of latents, at 94 steps a second."""

    pitch: Tensor
    """[B, T] in Hz."""
    voice: Tensor
    """[B, T] logits: is there a voice?"""
    gain: Tensor
    """[B, T, BINS] magnitude of the pulses' filter."""
    turn: Tensor
    """[B, T, BINS] phase of the pulses' filter, in radians."""
    noise: Tensor
    """[B, T, BINS] magnitude of the noise."""


class Decoder(nn.Module):
    """Latents to filters. A step reaches 11 steps of the latents on either side, and the pitch 3."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(LATENT, WIDTH)
        self.near = ConvBlock(WIDTH, 7)
        self.pitch = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4))
        self.coarse = nn.Sequential(ConvBlock(WIDTH, 7), ConvBlock(WIDTH, 5), ConvBlock(WIDTH, 3))
        self.split = nn.Linear(WIDTH, 2 * WIDTH)
        self.fine = nn.Sequential(ConvBlock(WIDTH, 5), ConvBlock(WIDTH, 5))
        self.leave = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, GAIN_BANDS + NOISE_BANDS + TURN_BANDS))

    def forward(self, latents: Tensor) -> Filters:
        """Take [B, T, LATENT] and return filters of 2 T steps."""
        batch, steps, _ = latents.shape
        x = self.near(self.enter(latents))
        octaves, voice = self.pitch(x).float().reshape(batch, 2 * steps, 2).unbind(-1)
        x = self.fine(self.split(self.coarse(x)).reshape(batch, 2 * steps, WIDTH))
        gain, noise, turn = self.leave(x).float().split((GAIN_BANDS, NOISE_BANDS, TURN_BANDS), dim=-1)
        return Filters(
            # From 50 to 800 Hz: there is no voice beyond, and in training a stray value would not come back.
            pitch=_FIRST_PITCH * torch.exp2(octaves.clamp(-2, 2)),
            voice=voice,
            # Bounded, as the exponential of a stray value would be heard as a bang.
            gain=_curve(gain).clamp(-12, 6).exp(),
            turn=_curve(turn),
            noise=_curve(noise - 2).clamp(-12, 6).exp(),
        )


class TinyNetwork(nn.Module):
    """Encoder, quantiser and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.quantiser = Quantiser()
        self.decoder = Decoder()

    def render(self, filters: Filters, train: Tensor, noise: Tensor | None) -> Tensor:
        """Return [B, N] samples of filters, a pulse train [B, N] and white noise [B, N] of variance 1."""
        shape = torch.polar(filters.gain, filters.turn)
        frames = sound.spectra(train, sound.N_FFT, sound.HOP) * shape / (sound.N_FFT / 4)
        if noise is not None:
            frames = frames + sound.spectra(noise, sound.N_FFT, sound.HOP) * filters.noise / 20
        return sound.sound_of(frames)


def _curve(values: Tensor) -> Tensor:
    # Curves go into an exponential, where half precision would be audible.
    with torch.autocast(values.device.type, enabled=False):
        return values @ sound.band_curves(values.shape[-1]).to(values.device)
