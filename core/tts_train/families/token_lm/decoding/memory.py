"""What generation needs of a card: memory, how many utterances at once there is room for, and a step on shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import LlamaConfig

from tts_train.families.token_lm.decoding.decoder import bucket, cache_type
from tts_train.families.token_lm.decoding.decoding import Decoding
from tts_train.families.token_lm.layout import TokenLayout
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.network.start import empty_network
from tts_train.nn.room import free_bytes

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

    from tts_train.families.token_lm.model import TokenLM


MOST_ON_CPU, MOST = 16, 64
"""Most utterances at once: a CPU gains little beyond, and a card's step grows with them."""
PROMPT = 128
"""Ids of a usual prompt, a line of text with its marks."""

_LOGITS = 24
"""Bytes of an entry of the vocabulary and row while an id is drawn: logits in half, float32, penalised and divided,
probabilities, noise with its hash, and what was used."""
_SEARCH = 4 * 4
"""More of them in the search for the nucleus: three products in float32 and their masks."""


def generation_bytes(
    token_lm: TokenLM,
    config: LlamaConfig,
    batch: int,
    positions: int,
    dtype: torch.dtype,
    *,
    depth: LlamaConfig | None = None,
) -> int:
    """Return what generating needs besides the weights: keys and values, logits, a prompt's states, and the codec.

    Args:
        token_lm: The model.
        config: Of the network.
        batch: Utterances at once.
        positions: Of the longest, prompt included: its ids, or its text's ids and frames where a frame is one position.
        dtype: What keys and values are computed in.
        depth: Configuration of the network that says the other codebooks of a frame, where there is one.
    """
    layout = token_lm.layout
    # The codec decodes one utterance at a time, after the batch has gone.
    codec = positions // layout.frame_positions * layout.frame_samples * token_lm.codec_bytes
    rows = batch * _row_bytes(config, positions, dtype, layout.slots, depth)
    # Not their sum: the batch is gone when the codec begins.
    return max(rows + _once_bytes(config, dtype, layout.slots, depth), codec)


def listening_bytes(
    token_lm: TokenLM, config: LlamaConfig, passages: int, *, half: bool, depth: LlamaConfig | None = None
) -> int:
    """Return what speaking so many passages of usual length at once needs while a network is trained, for a plan.

    Args:
        token_lm: The model.
        config: Of the network.
        passages: How many.
        half: Whether keys and values are computed in 16 bits.
        depth: Configuration of the depth network, where there is one.
    """
    from tts_train.training.listen.samples import RUNAWAY

    layout = token_lm.layout
    # Passages are cut off a second after so many times their usual length.
    second = layout.tokens_per_second * layout.frame_positions / layout.slots
    # What does not end by itself is ended there, so no cache grows beyond.
    cut_off = round(RUNAWAY * token_lm.utterance_tokens + second)
    dtype = torch.bfloat16 if half else torch.float32
    return generation_bytes(token_lm, config, min(passages, MOST), PROMPT + cut_off, dtype, depth=depth)


def rows_that_fit(lm: LlamaForCausalLM, positions: int, *, books: int = 1, depth: LlamaConfig | None = None) -> int:
    """Return how many utterances are to be generated at once, at least 1.

    Args:
        lm: The network, where it will compute.
        positions: Of the longest, prompt included.
        books: Codebooks of a frame that is one position.
        depth: Configuration of the network that says all but the first of them.
    """
    free = free_bytes(lm.lm_head.weight.device)
    if free is None:
        return MOST_ON_CPU
    dtype = cache_type(lm)
    # A tenth is left for gaps between tensors of other sizes.
    room = int(0.9 * free) - _once_bytes(lm.config, dtype, books, depth)
    return max(1, min(MOST, room // _row_bytes(lm.config, positions, dtype, books, depth)))


def _row_bytes(config: LlamaConfig, positions: int, dtype: torch.dtype, books: int, depth: LlamaConfig | None) -> int:
    # While a cache moves to one twice as large, both are there.
    cache = _cache_bytes(config, positions, dtype) * 3 // 2
    if depth is not None:
        cache += _cache_bytes(depth, books + 1, dtype)  # begun anew for each frame, so it never moves
    prompt = PROMPT * (3 * config.intermediate_size + 8 * config.hidden_size) * dtype.itemsize
    return int(cache + config.vocab_size * (_LOGITS + _SEARCH) + prompt)


def _cache_bytes(config: LlamaConfig, places: int, dtype: torch.dtype) -> int:
    """Return the size of a row's keys and values in a network's layers."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = config.num_key_value_heads
    return int(config.num_hidden_layers * 2 * bucket(places, places) * heads * width * dtype.itemsize)


def _once_bytes(config: LlamaConfig, dtype: torch.dtype, books: int, depth: LlamaConfig | None) -> int:
    """Return what a batch needs whatever its rows: the depth network's output matrices, laid out for single draws."""
    return 0 if depth is None else (books - 1) * config.vocab_size * depth.hidden_size * dtype.itemsize


def decoding_on_shapes(
    layout: TokenLayout,
    config: LlamaConfig,
    *,
    rows: int,
    prompt: int,
    tokens: int,
    dtype: torch.dtype = torch.bfloat16,
    sampling: Sampling = Sampling(),
) -> Decoding:
    """Return a batch that is continued by a network of shapes on ``cuda``; :meth:`Decoding.advance` is one step of it.

    To be called, and its methods with it, within a ``FakeTensorMode`` and ``planning_for("cuda")``. There reading a
    value, and a shape that depends on values, raise.

    Args:
        layout: Of its ids.
        config: Of the network.
        rows: Utterances of the batch.
        prompt: Ids of each prompt.
        tokens: Most ids to generate.
        dtype: Type of the weights.
        sampling: How ids are drawn.
    """
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        lm = empty_network(config, dtype=dtype, device="meta")
    for module in lm.modules():
        for name, parameter in module.named_parameters(recurse=False):
            shape = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
            setattr(module, name, nn.Parameter(shape, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
    prompts = [torch.zeros(prompt, dtype=torch.int64)] * rows
    lm.eval()
    limits: dict[str, Any] = {"seeds": [0] * rows, "limits": [tokens] * rows}
    return Decoding(layout, lm, prompts, **limits, sampling=sampling)  # type: ignore[arg-type]
