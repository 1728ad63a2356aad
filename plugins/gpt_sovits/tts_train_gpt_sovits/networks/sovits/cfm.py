"""Flow matching of mel spectrograms (v3, v4): its loss, its sampling, and the network around the estimator.

Flow matching as in Lipman et al. 2022 (arXiv 2210.02747), with steps that span a stretch of the way as in shortcut
models (Frans et al. 2024, arXiv 2410.12557). Shapes: B utterances, T mel frames, F feature frames of 20 ms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_gpt_sovits.networks.sovits.dit import Estimator
from tts_train_gpt_sovits.networks.sovits.encoders import TEXT_STYLE, ContentEncoder, PosteriorEncoder, StyleEncoder
from tts_train_gpt_sovits.networks.sovits.quantizer import Quantizer
from tts_train_gpt_sovits.signal.frames import full_precision, length_mask, upsample
from tts_train_gpt_sovits.signal.versions import FEATURES

SHORTCUT_SHARE = 0.3
"""Share of training forwards that learn longer steps."""
PROMPT_SHARE = 2 / 3
"""Largest share of an utterance that is given as prompt."""
_SHORTEST = 0.01  # steps shorter than this ask for the tangent


class FlowMatching(nn.Module):
    """An estimator with the loss that trains it and the steps that use it.

    Args:
        estimator: Estimates velocities.
    """

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - those of losses
        """Return the mean over utterances of ``losses``; the arguments are its."""
        return self.losses(*args, **kwargs).mean()

    def losses(
        self,
        mel: Tensor,
        lengths: Tensor,
        prompt_lengths: Tensor,
        content: Tensor,
        *,
        time: Tensor | None = None,
        noise: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of each utterance (B,): squared error of the velocity after its prompt, mean over frames.

        Args:
            mel: Normalised mel frames (B, mels, T).
            lengths: Frames of each utterance (B,).
            prompt_lengths: Known frames at the start of each (B,).
            content: Content frames (B, content, T).
            time: Where on the way, (B,); drawn if None.
            noise: Start of the way (B, mels, T); drawn if None.
            steps: k of the steps 2^-k to learn to double (B,); None learns the tangent.
        """
        time = torch.rand(len(mel), device=mel.device, dtype=mel.dtype) if time is None else time
        noise = torch.randn_like(mel) if noise is None else noise
        mask = length_mask(lengths, mel.shape[-1], mel.dtype)[:, 0] != 0
        known = length_mask(prompt_lengths, mel.shape[-1], mel.dtype)
        # Known frames are 0 on the way, and stand in the prompt instead.
        way = (noise + time[:, None, None] * (mel - noise)) * (1 - known)
        prompt = mel * known
        velocity, step = mel - noise, torch.zeros_like(time)
        if steps is not None:
            velocity, step = self._double(way, prompt, mask, time, steps, content)
        got = self.estimator(way, prompt, mask, time, step, content)
        counted = mask[:, None] * (1 - known)
        # Each utterance counts the same, however long it is: the mean over its frames comes before that over the batch.
        squared: Tensor = ((got - velocity).square() * counted).sum((1, 2))
        return squared / (counted.sum((1, 2)) * mel.shape[1])

    @torch.no_grad()
    def sample(
        self,
        content: Tensor,
        lengths: Tensor,
        prompt: Tensor,
        *,
        steps: int,
        guidance: float = 0.0,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return mel frames (B, mels, T), 0 on the prompt, by ``steps`` equal steps.

        Args:
            content: Content frames (B, content, T).
            lengths: Frames of each utterance (B,).
            prompt: Normalised mel frames to go on from (B, mels, P).
            steps: How many steps.
            guidance: Strength of classifier-free guidance; 0 for none.
            noise: Start of the way (B, mels, T); drawn if None.
            generator: Source of the draw.
        """
        frames, known = content.shape[-1], prompt.shape[-1]
        if noise is None:
            shape = (len(content), prompt.shape[1], frames)
            noise = torch.randn(shape, generator=generator, device=content.device, dtype=content.dtype)
        mask = length_mask(lengths, frames)[:, 0] != 0
        free = (torch.arange(frames, device=content.device) >= known).to(content.dtype)
        given = F.pad(prompt, (0, frames - known))
        x = noise * free
        step = content.new_full((len(content),), 1 / steps)
        for i in range(steps):
            velocity = self.estimator(x, given, mask, step * i, step, content)
            if guidance > 0:
                plain = self.estimator(x, given, mask, step * i, step, content, unguided=True)
                # Upstream speaks without guidance; the second answer doubles the work.
                velocity = velocity + (velocity - plain) * guidance
            x = (x + velocity / steps) * free
        return x

    @torch.no_grad()
    def _double(
        self, way: Tensor, prompt: Tensor, mask: Tensor, time: Tensor, steps: Tensor, content: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean velocity of two steps of 2^-k, and the length of both together."""
        step = torch.pow(2.0, -steps.to(time.dtype))
        # A step of less than a hundredth is told to the network as 0, which asks for the velocity at that moment:
        # upstream's rule (module/models.py).
        asked = torch.where(step < _SHORTEST, 0.0, step)
        first = self.estimator(way, prompt, mask, time, asked, content)
        second = self.estimator(way + step[:, None, None] * first, prompt, mask, time + step, asked, content)
        return (first + second) / 2, 2 * step


class FlowSovitsNetwork(nn.Module):
    """Synthesizer of v3 and v4, up to the mel spectrogram.

    Args:
        mel_per_feature: Mel frames for each feature frame.
        symbols: Entries of the phoneme table.
        style_bins: Spectrogram bins that the style encoder reads.
        dropout: Dropout of the content encoder.
        estimator: The estimator; None for one of the released size.
    """

    def __init__(
        self,
        *,
        mel_per_feature: float,
        symbols: int = 732,
        style_bins: int = 704,
        dropout: float = 0.1,
        channels: int = 192,
        hidden: int = 768,
        heads: int = 2,
        layers: int = 6,
        kernel: int = 3,
        estimator: Estimator | None = None,
    ) -> None:
        super().__init__()
        self.mel_per_feature = mel_per_feature
        self.content_encoder = ContentEncoder(
            symbols=symbols,
            latent=channels,
            channels=channels,
            hidden=hidden,
            heads=heads,
            layers=layers,
            kernel=kernel,
            dropout=dropout,
        )
        self.style_encoder = StyleEncoder(style_bins, TEXT_STYLE)
        self.feature_projection = nn.Conv1d(FEATURES, FEATURES, 2, stride=2)
        self.quantizer = Quantizer(channels=FEATURES)
        self.bridge = nn.Conv1d(channels, TEXT_STYLE, 1)
        self.refine = PosteriorEncoder(
            TEXT_STYLE, TEXT_STYLE, channels=TEXT_STYLE, kernel=5, layers=8, condition=TEXT_STYLE
        )
        # Nothing reads it; the released files hold it.
        self.mel_projection = nn.Conv1d(TEXT_STYLE, 100, 1)
        self.matching = FlowMatching(Estimator() if estimator is None else estimator)
        for part in (self.content_encoder, self.feature_projection, self.quantizer):
            part.requires_grad_(False)
        self.train()  # Lightning trains a network in the modes it is made with, and what is frozen must be in eval mode

    def train(self, mode: bool = True) -> FlowSovitsNetwork:
        """Set the mode of every part; the frozen ones stay in eval mode."""
        super().train(mode)
        for part in (self.content_encoder, self.feature_projection, self.quantizer):
            part.eval()
        return self

    def forward(
        self,
        features: Tensor | None,
        spectrogram: Tensor,
        mel: Tensor,
        lengths: Tensor,
        mel_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        *,
        codes: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        time: Tensor | None = None,
        noise: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        """Return the flow-matching loss of each utterance (B,).

        Args:
            features: Speech features (B, 768, F), F even; None where ``codes`` are given.
            spectrogram: Magnitudes (B, 1025, F).
            mel: Normalised mel frames (B, 100, T).
            lengths: Feature frames of each utterance (B,).
            mel_lengths: Mel frames of each utterance (B,).
            text: Phonemes, int64 (B, X).
            text_lengths: Phonemes of each utterance (B,).
            codes: Semantic tokens (B, F / 2), in place of the features they were made of.
            prompt_lengths: Known mel frames of each (B,); drawn up to two thirds of the utterance if None.
            time: As in ``FlowMatching.losses``.
            noise: The same.
            steps: The same.
        """
        if codes is None:
            if features is None:
                raise ValueError("A forward needs speech features or the semantic tokens made of them.")
            codes = self.codes(features)
        style = self.style_encoder(spectrogram, length_mask(lengths, spectrogram.shape[-1], spectrogram.dtype))
        content = self.content(codes, text, style, lengths=lengths, text_lengths=text_lengths, mel_lengths=mel_lengths)
        if prompt_lengths is None:
            # Up to two thirds are given, so that the network learns to continue a reference.
            prompt_lengths = (torch.rand(len(mel), device=mel.device) * mel_lengths * PROMPT_SHARE).long()
        # v3 has 1.875 mel frames for each of the features', so the two round differently.
        frames = min(mel.shape[-1], content.shape[-1])
        losses: Tensor = self.matching.losses(
            mel[..., :frames],
            mel_lengths.clamp(max=frames),
            prompt_lengths,
            content[..., :frames],
            time=time,
            noise=None if noise is None else noise[..., :frames],
            steps=steps,
        )
        return losses

    @torch.no_grad()
    def codes(self, features: Tensor) -> Tensor:
        """Return the semantic tokens (B, F // 2) of speech features (B, 768, F)."""
        # In 16 bits another entry could be nearest.
        with full_precision(features):
            return self.quantizer.encode(self.feature_projection(features))

    def content(
        self,
        codes: Tensor,
        text: Tensor,
        style: Tensor,
        *,
        lengths: Tensor | None = None,
        text_lengths: Tensor | None = None,
        mel_lengths: Tensor | None = None,
        speed: float = 1.0,
    ) -> Tensor:
        """Return content frames (B, 512, T) of semantic tokens (B, N), phonemes (B, X) and a style (B, 512, 1).

        Lengths count feature frames, phonemes and mel frames; None takes all.
        """
        with torch.no_grad():
            values = upsample(self.quantizer.decode(codes), 2.0)
            mask = _mask(lengths, values)
            text_mask = _mask(text_lengths, text[:, None].to(values.dtype))
            hidden, *_ = self.content_encoder(values, mask, text, text_mask, style, speed=speed)
        wide = upsample(F.leaky_relu(self.bridge(hidden)), self.mel_per_feature)
        refined: Tensor = self.refine(wide, _mask(mel_lengths, wide), style)
        return refined


def _mask(lengths: Tensor | None, x: Tensor) -> Tensor:
    """Return the mask (B, 1, T) of ``x`` (B, C, T); all ones without lengths."""
    return torch.ones_like(x[:, :1]) if lengths is None else length_mask(lengths, x.shape[-1], x.dtype)
