"""Codes to sound: codebooks, a transformer over frames, and what leads up to its wave."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train_qwen3_tts.codec.layers import CausalConv, CausalLayer, RotaryAttention
from tts_train_qwen3_tts.codec.sizes import DecoderSizes
from tts_train_qwen3_tts.codec.wave import FrameUpsampling, wave_layers

CHUNK = 125
"""Frames whose wave is made at once (10 s), which bounds the memory that a long utterance takes."""


class FrameCodebook(nn.Module):
    """The centroids of a codebook, kept as sums over what fell to each in training, with the counts."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.cluster_usage = nn.Parameter(torch.ones(size))
        self.embedding_sum = nn.Parameter(torch.zeros(size, width))

    def forward(self, codes: Tensor) -> Tensor:
        """Take codes [B, T] and return their centroids [B, T, width]."""
        # Divided after the lookup: some rows, and not the whole table at each call.
        return F.embedding(codes, self.embedding_sum) / self.cluster_usage.clamp(min=1e-5)[codes][..., None]


class FrameSum(nn.Module):
    """Codebooks whose centroids add up, half as wide as what is made of them."""

    def __init__(self, sizes: DecoderSizes, count: int) -> None:
        super().__init__()
        inner = sizes.codebook_dim // 2
        books = (FrameCodebook(sizes.codebook_size, inner) for _ in range(count))
        self.vq = nn.ModuleDict({"layers": nn.ModuleList(nn.ModuleDict({"_codebook": book}) for book in books)})
        # Of encoding, which nothing here does; released files have it.
        self.input_proj = nn.Conv1d(sizes.codebook_dim, inner, 1, bias=False)
        self.output_proj = nn.Conv1d(inner, sizes.codebook_dim, 1, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Take codes [B, count, T] and return [B, codebook_dim, T]."""
        levels = zip(self.vq["layers"], codes.unbind(1), strict=True)  # type: ignore[call-overload]
        parts = [level["_codebook"](each) for level, each in levels]
        frames: Tensor = self.output_proj(torch.stack(parts).sum(0).mT)
        return frames


class FrameCodes(nn.Module):
    """The first codebook and the others."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.rvq_first = FrameSum(sizes, 1)
        self.rvq_rest = FrameSum(sizes, sizes.num_quantizers - 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Take codes [B, num_quantizers, T] and return [B, codebook_dim, T]."""
        frames: Tensor = self.rvq_first(codes[:, :1]) + self.rvq_rest(codes[:, 1:])
        return frames


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Take and return [..., width]."""
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class FrameTransformer(nn.Module):
    """Layers over frames, of which each sees ``sliding_window``."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        width, norm = sizes.hidden_size, partial(nn.RMSNorm, sizes.hidden_size, eps=sizes.rms_norm_eps)
        shape = (width, sizes.num_attention_heads, sizes.head_dim, sizes.rope_theta, sizes.sliding_window)
        self.input_proj = nn.Linear(sizes.latent_dim, width)
        self.layers = nn.ModuleList(
            CausalLayer(RotaryAttention(*shape), GatedMlp(width, sizes.intermediate_size), width, norm)
            for _ in range(sizes.num_hidden_layers)
        )
        self.norm = norm()
        self.output_proj = nn.Linear(width, sizes.latent_dim)

    def forward(self, frames: Tensor, first: int = 0) -> Tensor:
        """Take and return [B, latent_dim, T], of which the first frame has the number ``first``."""
        x = self.input_proj(frames.mT)
        for layer in self.layers:
            x = layer(x, first)
        y: Tensor = self.output_proj(self.norm(x))
        return y.mT


class SoundDecoder(nn.Module):
    """Codes to sound."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.pre_transformer = FrameTransformer(sizes)
        self.quantizer = FrameCodes(sizes)
        self.pre_conv = CausalConv(sizes.codebook_dim, sizes.latent_dim, 3)
        self.upsample = nn.Sequential(*(FrameUpsampling(sizes.latent_dim, ratio) for ratio in sizes.upsampling_ratios))
        self.decoder = wave_layers(sizes)

    def frames(self, codes: Tensor, first: int = 0) -> Tensor:
        """Take codes [B, num_quantizers, T] and return what their sound is made of, [B, latent_dim, T]."""
        frames: Tensor = self.pre_transformer(self.pre_conv(self.quantizer(codes)), first)
        return frames

    def wave(self, frames: Tensor) -> Tensor:
        """Take [B, latent_dim, T] and return [B, T * 1920] samples in [-1, 1]."""
        sound: Tensor = self.decoder(self.upsample(frames))
        return sound[:, 0].clamp(-1, 1)

    def forward(self, codes: Tensor, first: int = 0, skip: int = 0) -> Tensor:
        """Take codes [B, num_quantizers, T] and return [B, (T - skip) * 1920] samples, the wave made in chunks.

        A chunk is made with all frames that it depends on, so chunks change nothing but the rounding.
        """
        frames, reach, parts = self.frames(codes, first), self.sizes.wave_reach, []
        for start in range(skip, frames.shape[-1], CHUNK):
            # Before the first frame there is nothing, in the whole as in a chunk.
            context = min(start, reach)
            sound = self.wave(frames[..., start - context : start + CHUNK])
            count = min(CHUNK, frames.shape[-1] - start)
            parts.append(sound[:, context * (sound.shape[-1] // (context + count)) :])
        return torch.cat(parts, dim=-1)
