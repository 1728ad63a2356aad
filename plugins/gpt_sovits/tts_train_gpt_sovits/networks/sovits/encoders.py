"""The encoders of content with text (prior), spectrogram (posterior) and reference (style), and the flow between two.

The flow is the invertible path between the posterior's latents and the prior's (Dinh et al. 2014, arXiv 1410.8516).
Tensors are (B, C, T) as in ``layers``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_gpt_sovits.networks.sovits.layers import (
    CrossAttention,
    GatedStack,
    RelativeEncoder,
    join_heads,
    split_heads,
)
from tts_train_gpt_sovits.signal.frames import additive_mask, attend

TEXT_STYLE = 512  # width at which text, content and style meet, the same in every version
STYLE_WIDTH = 128


class TextFusion(nn.Module):
    """Content frames that read the text and are told the speaker."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cross_attention = CrossAttention(TEXT_STYLE, heads=4)
        self.content = nn.Conv1d(channels, TEXT_STYLE, 1)
        self.text = nn.Conv1d(channels, TEXT_STYLE, 1)
        self.output = nn.Conv1d(TEXT_STYLE, channels, 1)

    def forward(self, content: Tensor, mask: Tensor, text: Tensor, text_mask: Tensor, style: Tensor) -> Tensor:
        """Return (B, channels, T); ``style`` is (B, 512, 1)."""
        # Text reaches speech by attention only; the style is added to every frame (module/mrte_model.py).
        wide = self.content(content * mask)
        read = self.cross_attention(wide * mask, self.text(text * text_mask) * text_mask, text_mask)
        output: Tensor = self.output((read + wide + style) * mask)
        return output


class ContentEncoder(nn.Module):
    """Quantized speech features and phonemes to the prior of the latents.

    Args:
        symbols: Entries of the phoneme table.
        latent: Channels of the latents.
        channels: Channels inside.
        hidden: Channels inside the feed-forward layers.
        heads: Attention heads.
        layers: Layers of the text encoder; the two content encoders have half as many.
        kernel: Kernel of the feed-forward layers.
        dropout: Dropout of the encoders.
        features: Channels of the speech features.
    """

    def __init__(
        self,
        *,
        symbols: int,
        latent: int,
        channels: int,
        hidden: int,
        heads: int,
        layers: int,
        kernel: int,
        dropout: float,
        features: int = 768,
    ) -> None:
        super().__init__()

        def encoder(depth: int) -> RelativeEncoder:
            return RelativeEncoder(channels, hidden=hidden, heads=heads, layers=depth, kernel=kernel, dropout=dropout)

        self.features = nn.Conv1d(features, channels, 1)
        self.content_encoder = encoder(layers // 2)
        self.text_encoder = encoder(layers)
        self.text_embedding = nn.Embedding(symbols, channels)
        self.fusion = TextFusion(channels)
        self.joint_encoder = encoder(layers // 2)
        self.statistics = nn.Conv1d(channels, 2 * latent, 1)

    def forward(
        self,
        quantized: Tensor,
        mask: Tensor,
        text: Tensor,
        text_mask: Tensor,
        style: Tensor,
        *,
        speed: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return hidden frames (B, channels, T'), mean and log deviation (B, latent, T') and the mask of T'.

        ``quantized`` is (B, features, T), ``text`` int64 (B, X), ``style`` (B, 512, 1). A ``speed`` other than 1
        stretches the hidden frames to int(T / speed) + 1.
        """
        content = self.content_encoder(self.features(quantized * mask) * mask, mask)
        words = self.text_encoder(self.text_embedding(text).transpose(1, 2), text_mask)
        hidden = self.joint_encoder(self.fusion(content, mask, words, text_mask, style), mask)
        if speed != 1.0:
            # Upstream's length, one more than the division gives.
            frames = int(hidden.shape[-1] / speed) + 1
            hidden = F.interpolate(hidden, size=frames, mode="linear")
            mask = F.interpolate(mask, size=frames, mode="nearest")
        mean, log_deviation = (self.statistics(hidden) * mask).chunk(2, dim=1)
        return hidden, mean, log_deviation, mask


class PosteriorEncoder(nn.Module):
    """A spectrogram to mean and log deviation of its latents; in v3 and v4 features to features."""

    def __init__(self, inputs: int, outputs: int, *, channels: int, kernel: int, layers: int, condition: int) -> None:
        super().__init__()
        self.input = nn.Conv1d(inputs, channels, 1)
        self.stack = GatedStack(channels, kernel=kernel, layers=layers, condition=condition)
        self.output = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        """Return (B, outputs, T), 0 on padding; no gradient flows into ``style``, as in the released training."""
        # Upstream detaches the style here (module/models.py). In v3 and v4 only the content encoder reads it besides,
        # which runs without gradients while the quantizer is frozen; so the style encoder is not trained there.
        encoded: Tensor = self.output(self.stack(self.input(x) * mask, mask, style.detach())) * mask
        return encoded


class StyleEncoder(nn.Module):
    """A reference spectrogram to one vector of voice and manner (Meta-StyleSpeech, arXiv 2106.03153).

    Up to four frames of padding are seen by the last frames of an utterance, as in the released networks.

    Args:
        bins: Spectrogram bins it reads, from the lowest.
        outputs: Channels of the vector.
    """

    def __init__(self, bins: int, outputs: int, *, heads: int = 2, kernel: int = 5, dropout: float = 0.1) -> None:
        super().__init__()
        self.bins = bins
        self.heads = heads
        self.spectral = nn.ModuleList([nn.Linear(bins, STYLE_WIDTH), nn.Linear(STYLE_WIDTH, STYLE_WIDTH)])
        self.temporal = nn.ModuleList(
            nn.Conv1d(STYLE_WIDTH, 2 * STYLE_WIDTH, kernel, padding=kernel // 2) for _ in range(2)
        )
        self.attention = nn.ModuleDict(
            {name: nn.Linear(STYLE_WIDTH, STYLE_WIDTH) for name in ("query", "key", "value", "output")}
        )
        self.output = nn.Linear(STYLE_WIDTH, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, spectrogram: Tensor, mask: Tensor) -> Tensor:
        """Return (B, outputs, 1), the mean over the frames that ``mask`` keeps; ``spectrogram`` is (B, >= bins, T)."""
        # v2 on read the lower 704 of 1,025 bins, up to 11 kHz; v1 all.
        x = (spectrogram[:, : self.bins] * mask).transpose(1, 2)
        for linear in self.spectral:
            x = self.dropout(F.mish(linear(x)))
        x = x.transpose(1, 2)
        for convolution in self.temporal:
            # Not masked in between, so frames of padding reach into an utterance's last four; the released weights
            # expect it.
            x = x + self.dropout(F.glu(convolution(x), dim=1))
        x = (x * mask).transpose(1, 2)
        kept = mask.transpose(1, 2)
        pooled: Tensor = self.output(x + self._attend(x, mask)) * kept / kept.sum(dim=1, keepdim=True)
        return pooled.sum(dim=1)[:, :, None]

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            split_heads(self.attention[name](x).transpose(1, 2), self.heads) for name in ("query", "key", "value")
        )
        gathered = attend(
            query,
            key,
            value,
            additive_mask(mask[:, None] != 0, query),
            dropout=self.dropout.p if self.training else 0.0,
            # The released networks divide by the root of the full width, not of a head's.
            scale=STYLE_WIDTH**-0.5,
        )
        attended: Tensor = self.dropout(self.attention["output"](join_heads(gathered).transpose(1, 2)))
        return attended


class SpeakerStyle(nn.Module):
    """The speaker-verification vector joined into the style (v2Pro, v2ProPlus)."""

    def __init__(self, outputs: int, *, speaker: int = 20480) -> None:
        super().__init__()
        self.speaker = nn.Linear(speaker, outputs)
        self.to_text = nn.Linear(outputs, TEXT_STYLE)
        self.activation = nn.PReLU(outputs)

    def forward(self, style: Tensor, vector: Tensor) -> Tensor:
        """Return the style (B, outputs, 1) with the vector (B, speaker) in it."""
        joined: Tensor = self.activation(style + self.speaker(vector)[:, :, None])
        return joined

    def text_style(self, style: Tensor) -> Tensor:
        """Return the style as the content encoder reads it, (B, 512, 1)."""
        narrow: Tensor = self.to_text(style[:, :, 0])
        return narrow[:, :, None]


class Coupling(nn.Module):
    """Shift one half of the channels by what the other half says; volume is kept."""

    def __init__(self, latent: int, *, channels: int, kernel: int, layers: int, condition: int) -> None:
        super().__init__()
        self.input = nn.Conv1d(latent // 2, channels, 1)
        self.stack = GatedStack(channels, kernel=kernel, layers=layers, condition=condition)
        self.output = nn.Conv1d(channels, latent // 2, 1)
        nn.init.zeros_(self.output.weight)  # a fresh flow is the identity
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, mask: Tensor, style: Tensor, *, reverse: bool = False) -> Tensor:
        """Return (B, latent, T) with the upper half shifted, or shifted back."""
        lower, upper = x.chunk(2, dim=1)
        shift = self.output(self.stack(self.input(lower) * mask, mask, style)) * mask
        upper = (upper - shift) * mask if reverse else upper * mask + shift
        # The determinant is 1, so the loss has no term for it.
        return torch.cat([lower, upper], dim=1)


class Flow(nn.Module):
    """Couplings with the order of the channels turned round between them.

    Args:
        latent: Channels of the latents, even.
        channels: Channels inside the couplings.
        kernel: Kernel of their gated stacks.
        layers: Layers of their gated stacks.
        couplings: How many couplings.
        condition: Channels of the style.
    """

    def __init__(
        self, latent: int, *, channels: int, condition: int, kernel: int = 5, layers: int = 4, couplings: int = 4
    ) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(
            Coupling(latent, channels=channels, kernel=kernel, layers=layers, condition=condition)
            for _ in range(couplings)
        )

    def forward(self, x: Tensor, mask: Tensor, style: Tensor, *, reverse: bool = False) -> Tensor:
        """Return the prior's latents of the posterior's (B, latent, T), or with ``reverse`` the other way."""
        if reverse:
            for coupling in reversed(self.couplings):
                x = coupling(x.flip(1), mask, style, reverse=True)
            return x
        for coupling in self.couplings:
            x = coupling(x, mask, style).flip(1)
        return x
