"""Sound to codes: Mimi's encoder (Défossez et al. 2024, arXiv 2410.00037) under its released names.

It is written out here, on the layers of the decoder, because what transformers' ``MimiModel`` computes depends on its
version: in 5.0 its attention is fully causal, later a window is applied, and names moved in between. A test holds it
equal to the installed one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train.contract import wide_type
from tts_train_qwen3_tts.codec.layers import CausalConv, CausalLayer, LayerStack, RotaryAttention
from tts_train_qwen3_tts.codec.sizes import EncoderSizes


class NarrowBlock(nn.Module):
    """A residual of two convolutions with fewer channels between them, [B, width, T] to the same."""

    def __init__(self, width: int, kernel: int, compress: int) -> None:
        super().__init__()
        inner = width // compress
        self.block = nn.Sequential(nn.ELU(), CausalConv(width, inner, kernel), nn.ELU(), CausalConv(inner, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Add the block."""
        changed: Tensor = self.block(x)
        return x + changed


def sound_convs(sizes: EncoderSizes) -> Iterator[nn.Module]:
    """Yield the layers that make [B, hidden_size, ceil(N / 960)] of [B, 1, N] samples."""
    width = sizes.num_filters
    yield CausalConv(1, width, sizes.kernel_size)
    for ratio in reversed(sizes.upsampling_ratios):
        yield NarrowBlock(width, sizes.residual_kernel_size, sizes.compress)
        yield nn.ELU()
        yield CausalConv(width, 2 * width, 2 * ratio, stride=ratio)
        width *= 2
    yield nn.ELU()
    yield CausalConv(width, sizes.hidden_size, sizes.last_kernel_size)


def step_layers(sizes: EncoderSizes, window: int | None) -> Iterator[nn.Module]:
    """Yield the layers over [B, T, hidden_size], 25 steps a second, of which each sees ``window``, or all before it."""
    width, inner, norm = sizes.hidden_size, sizes.intermediate_size, partial(nn.LayerNorm, eps=sizes.norm_eps)
    for _ in range(sizes.num_hidden_layers):
        attention = RotaryAttention(width, sizes.num_attention_heads, sizes.head_dim, sizes.rope_theta, window)
        linear = {
            "fc1": nn.Linear(width, inner, bias=False),
            "act": nn.GELU(),
            "fc2": nn.Linear(inner, width, bias=False),
        }
        yield CausalLayer(attention, nn.Sequential(OrderedDict(linear)), width, partial(norm, width))


class SoundCodebook(nn.Module):
    """The centroids of a codebook, kept as sums over what fell to each in training, with the counts."""

    embed_sum: Tensor
    cluster_usage: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        # Of no use once trained, but every released file has it.
        self.register_buffer("initialized", torch.ones(1))
        self.register_buffer("cluster_usage", torch.ones(size))
        self.register_buffer("embed_sum", torch.zeros(size, width))

    def centroids(self) -> Tensor:
        """Return [size, width]."""
        return self.embed_sum / self.cluster_usage.clamp(min=1e-5)[:, None]


class SoundResiduals(nn.Module):
    """Codebooks of which each codes what those before it leave over."""

    def __init__(self, sizes: EncoderSizes, count: int) -> None:
        super().__init__()
        books = (SoundCodebook(sizes.codebook_size, sizes.codebook_dim) for _ in range(count))
        self.layers = nn.ModuleList(nn.ModuleDict({"codebook": book}) for book in books)
        self.input_proj = nn.Conv1d(sizes.hidden_size, sizes.codebook_dim, 1, bias=False)
        # Of the way back, which nothing here goes; released files have it.
        self.output_proj = nn.Conv1d(sizes.codebook_dim, sizes.hidden_size, 1, bias=False)

    def forward(self, latents: Tensor, count: int) -> list[Tensor]:
        """Take [B, hidden_size, T] and return the codes [B, T] of the first ``count`` codebooks."""
        rest, codes = self.input_proj(latents).mT, []
        for level in self.layers[:count]:
            centroids = level["codebook"].centroids()  # type: ignore[index]
            codes.append(nearest(rest, centroids))
            rest = rest - F.embedding(codes[-1], centroids)
        return codes


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Return the number [...] of the float32 centroid [size, width] that is nearest to each vector [..., width]."""
    wide = wide_type(vectors.device)
    points, among = vectors.float().to(wide), centroids.float().to(wide)
    # The vector's own square is the same for all. In float64, so that the length of a clip cannot decide a close call.
    return (among.square().sum(-1) - 2 * points @ among.T).argmin(-1)


class SoundQuantiser(nn.Module):
    """The first codebook and the others, which both code the same vectors, by names that Mimi gave them."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.semantic_residual_vector_quantizer = SoundResiduals(sizes, 1)
        self.acoustic_residual_vector_quantizer = SoundResiduals(sizes, sizes.num_quantizers - 1)

    def forward(self, latents: Tensor, count: int) -> Tensor:
        """Take [B, hidden_size, T] and return the codes [B, count, T]."""
        first = self.semantic_residual_vector_quantizer(latents, 1)
        return torch.stack([*first, *self.acoustic_residual_vector_quantizer(latents, count - 1)], dim=1)


class SoundEncoder(nn.Module):
    """Sound to codes.

    Args:
        sizes: of the network.
        window: whether attention is held to ``sizes.sliding_window`` steps of 40 ms.
    """

    def __init__(self, sizes: EncoderSizes, *, window: bool) -> None:
        super().__init__()
        self.sizes, self.window = sizes, window
        self.encoder = LayerStack(sound_convs(sizes))
        self.encoder_transformer = LayerStack(step_layers(sizes, sizes.sliding_window if window else None))
        # The only convolution that repeats its ends; all others put zeros there.
        self.downsample = CausalConv(sizes.hidden_size, sizes.hidden_size, 4, stride=2, bias=False, fill="replicate")
        self.quantizer = SoundQuantiser(sizes)

    def latents(self, waves: Tensor) -> Tensor:
        """Take [B, 1, N] samples and return [B, hidden_size, ceil(N / 1920)]."""
        latents: Tensor = self.downsample(self.encoder_transformer(self.encoder(waves).mT).mT)
        return latents

    def forward(self, waves: Tensor, codebooks: int) -> Tensor:
        """Take [B, 1, N] samples and return the codes [B, codebooks, ceil(N / 1920)]."""
        codes: Tensor = self.quantizer(self.latents(waves), codebooks)
        return codes
