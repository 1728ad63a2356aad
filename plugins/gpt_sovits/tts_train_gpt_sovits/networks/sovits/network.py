"""The adversarial versions' network: speech features, text and a reference to a waveform.

Shapes: B utterances, T frames of 20 ms, X phonemes, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tts_train_gpt_sovits.networks.sovits.encoders import (
    TEXT_STYLE,
    ContentEncoder,
    Flow,
    PosteriorEncoder,
    SpeakerStyle,
    StyleEncoder,
)
from tts_train_gpt_sovits.networks.sovits.generator import WaveGenerator, random_starts, slice_frames
from tts_train_gpt_sovits.networks.sovits.quantizer import Quantized, Quantizer
from tts_train_gpt_sovits.signal.frames import full_precision, length_mask, upsample
from tts_train_gpt_sovits.signal.versions import FEATURES, SPECTROGRAM_BINS


class GeneratedSlice(NamedTuple):
    """What a training forward gives; ``frames`` are the frames of a slice."""

    audio: Tensor
    """Samples (B, 1, frames * hop) of each utterance's slice."""
    starts: Tensor
    """First frame of each slice, int64 (B,)."""
    mask: Tensor
    """(B, 1, T), 1 on frames."""
    latents: Tensor
    """The posterior's samples (B, latent, T)."""
    prior_latents: Tensor
    """The same through the flow."""
    mean_p: Tensor
    """Mean of the prior."""
    log_p: Tensor
    """Log deviation of the prior."""
    mean_q: Tensor
    """Mean of the posterior."""
    log_q: Tensor
    """Log deviation of the posterior."""
    quantized: Quantized
    """The quantizer's answer at 25 frames a second; values (B, 768, T / 2)."""


class SovitsNetwork(nn.Module):
    """Synthesizer of v1, v2, v2Pro and v2ProPlus.

    Args:
        symbols: Entries of the phoneme table.
        style_bins: Spectrogram bins that the style encoder reads.
        style: Channels of the style vector; 512 unless a speaker-verification vector is joined into it.
        speaker: Whether a speaker-verification vector is joined into the style.
        wave_channels: Channels before the generator's first upsampling.
        upsample_kernels: Kernel of each upsampling.
        rates: Factor of each upsampling.
        dropout: Dropout of the content encoder.
        latent: Channels of the latents.
        channels: Channels of encoders and flow.
        hidden: Channels of the feed-forward layers.
        heads: Attention heads of the content encoder.
        layers: Layers of its text encoder.
        kernel: Kernel of its feed-forward layers.
        block_kernels: Kernels of the generator's residual blocks.
        dilations: Their dilations.
        freeze_quantizer: Whether codebook and the projection before it stay as they are.
    """

    def __init__(
        self,
        *,
        symbols: int = 732,
        style_bins: int = 704,
        style: int = 512,
        speaker: bool = False,
        wave_channels: int = 512,
        upsample_kernels: Sequence[int] = (16, 16, 8, 2, 2),
        rates: Sequence[int] = (10, 8, 2, 2, 2),
        dropout: float = 0.1,
        latent: int = 192,
        channels: int = 192,
        hidden: int = 768,
        heads: int = 2,
        layers: int = 6,
        kernel: int = 3,
        block_kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[Sequence[int]] = ((1, 3, 5),) * 3,
        freeze_quantizer: bool = True,
    ) -> None:
        super().__init__()
        if not speaker and style != TEXT_STYLE:
            raise ValueError(f"Without a speaker vector the style has {TEXT_STYLE} channels, and {style} were given.")
        self.freeze_quantizer = freeze_quantizer
        self.content_encoder = ContentEncoder(
            symbols=symbols,
            latent=latent,
            channels=channels,
            hidden=hidden,
            heads=heads,
            layers=layers,
            kernel=kernel,
            dropout=dropout,
        )
        self.generator = WaveGenerator(
            latent,
            channels=wave_channels,
            rates=rates,
            upsample_kernels=upsample_kernels,
            kernels=block_kernels,
            dilations=dilations,
            condition=style,
        )
        self.posterior_encoder = PosteriorEncoder(
            SPECTROGRAM_BINS, 2 * latent, channels=channels, kernel=5, layers=16, condition=style
        )
        self.flow = Flow(latent, channels=channels, condition=style)
        self.style_encoder = StyleEncoder(style_bins, style)
        self.feature_projection = nn.Conv1d(FEATURES, FEATURES, 2, stride=2)
        self.quantizer = Quantizer(channels=FEATURES)
        self.speaker_style = SpeakerStyle(style) if speaker else None
        self.train()  # Lightning trains a network in the modes it is made with, and what is frozen must be in eval mode

    def train(self, mode: bool = True) -> SovitsNetwork:
        """Set the mode of every part; a frozen quantizer stays in eval mode."""
        super().train(mode)
        self.quantizer.train(mode and not self.freeze_quantizer)
        return self

    def forward(
        self,
        features: Tensor | None,
        spectrogram: Tensor,
        lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        *,
        frames: int,
        codes: Tensor | None = None,
        speaker: Tensor | None = None,
        noise: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> GeneratedSlice:
        """Speak one slice of each utterance through the posterior of its own spectrogram.

        Args:
            features: Speech features (B, 768, T), T even; None where ``codes`` are given.
            spectrogram: Magnitudes (B, 1025, T).
            lengths: Frames of each utterance (B,).
            text: Phonemes, int64 (B, X).
            text_lengths: Phonemes of each utterance (B,).
            frames: Frames of a slice.
            codes: Semantic tokens (B, T / 2) of a frozen quantizer, in place of the features they were made of.
            speaker: Speaker-verification vectors (B, 20480), for the Pro versions.
            noise: Noise of the posterior (B, latent, T); drawn if None.
            starts: First frame of each slice (B,); drawn if None.
        """
        mask = length_mask(lengths, spectrogram.shape[-1], spectrogram.dtype)
        text_mask = length_mask(text_lengths, text.shape[-1], spectrogram.dtype)
        style = self.style(spectrogram, mask, speaker)
        # Codes of a frozen codebook come from the data: features are 768 numbers a frame, and give the same codes in
        # every epoch.
        quantized = self._quantize(features, codes)
        _, mean_p, log_p, _ = self.content_encoder(
            upsample(quantized.values, 2.0), mask, text, text_mask, self._text_style(style)
        )
        mean_q, log_q = self.posterior_encoder(spectrogram, mask, style).chunk(2, dim=1)
        noise = torch.randn_like(mean_q) if noise is None else noise
        latents = (mean_q + noise * torch.exp(log_q)) * mask
        prior_latents = self.flow(latents, mask, style)
        starts = random_starts(lengths, frames) if starts is None else starts
        # Only a slice is spoken: the generator's activations take far more memory than its latents.
        audio = self.generator(slice_frames(latents, starts, frames), style)
        return GeneratedSlice(audio, starts, mask, latents, prior_latents, mean_p, log_p, mean_q, log_q, quantized)

    def style(self, spectrogram: Tensor, mask: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Return the style (B, style, 1) of reference spectrograms (B, 1025, T) and speaker vectors (B, 20480)."""
        style: Tensor = self.style_encoder(spectrogram, mask)
        if self.speaker_style is None:
            return style
        if speaker is None:
            raise ValueError("A Pro network needs speaker-verification vectors (B, 20480).")
        joined: Tensor = self.speaker_style(style, speaker)
        return joined

    @torch.no_grad()
    def codes(self, features: Tensor) -> Tensor:
        """Return the semantic tokens (B, T // 2) of speech features (B, 768, T)."""
        with full_precision(features):
            return self.quantizer.encode(self.feature_projection(features))

    @torch.no_grad()
    def decode(
        self,
        codes: Tensor,
        text: Tensor,
        references: Sequence[Tensor],
        *,
        speakers: Sequence[Tensor] = (),
        noise_scale: float = 0.5,
        speed: float = 1.0,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Speak semantic tokens: samples (1, 1, 2 * N * hop) of N tokens, fewer if ``speed`` is above 1.

        Args:
            codes: Semantic tokens (1, N).
            text: Phonemes (1, X).
            references: Spectrograms (1, 1025, T) whose styles are averaged.
            speakers: Speaker-verification vector (1, 20480) of each reference, for the Pro versions.
            noise_scale: Share of the prior's deviation.
            speed: How much faster than the tokens say.
            noise: Noise in place of a draw, of the shape of the latents or one that spreads to it.
            generator: Source of the draw.
        """
        vectors: Sequence[Tensor | None] = speakers or [None] * len(references)
        styles = [
            self.style(each, torch.ones_like(each[:, :1]), vector)
            for each, vector in zip(references, vectors, strict=True)
        ]
        # Several references blend into one voice, as in upstream's inference.
        style = torch.stack(styles).mean(0)
        values = upsample(self.quantizer.decode(codes), 2.0)
        ones = torch.ones_like(values[:, :1])
        text_mask = ones.new_ones(1, 1, text.shape[-1])
        _, mean, log_deviation, mask = self.content_encoder(
            values, ones, text, text_mask, self._text_style(style), speed=speed
        )
        if noise is None:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        # Inference speaks from the prior; the posterior encoder is for training, and exports leave it out.
        drawn = mean + noise * torch.exp(log_deviation) * noise_scale
        latents = self.flow(drawn, mask, style, reverse=True) * mask
        audio: Tensor = self.generator(latents, style)
        return audio

    def _text_style(self, style: Tensor) -> Tensor:
        return style if self.speaker_style is None else self.speaker_style.text_style(style)

    def _quantize(self, features: Tensor | None, codes: Tensor | None) -> Quantized:
        if codes is not None and self.freeze_quantizer:
            values = self.quantizer.decode(codes)
            return Quantized(values, codes, values.new_zeros(()))
        if features is None:
            raise ValueError("An unfrozen quantizer needs speech features, not the codes it once gave.")
        # Nothing before a frozen codebook can learn, so nothing of it is kept for a backward pass.
        learns = torch.is_grad_enabled() and not self.freeze_quantizer
        with torch.set_grad_enabled(learns), full_precision(features):
            quantized: Quantized = self.quantizer(self.feature_projection(features))
        return quantized
