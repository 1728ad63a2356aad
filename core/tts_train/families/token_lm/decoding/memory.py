"""What generation needs of a card's memory, and how many utterances at once that leaves room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tts_train.families.token_lm.decoding.decoder import bucket, cache_type
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


def generation_bytes(token_lm: TokenLM, config: LlamaConfig, batch: int, tokens: int, dtype: torch.dtype) -> int:
    """Return what generating needs besides the weights: keys and values, logits, a prompt's states, and the codec.

    Args:
        token_lm: The model.
        config: Of the network.
        batch: Utterances at once.
        tokens: Ids of the longest, prompt included.
        dtype: What keys and values are computed in.
    """
    # The codec decodes one utterance at a time, after the batch has gone.
    codec = tokens // token_lm.layout.slots * token_lm.layout.frame_samples * token_lm.codec_bytes
    return max(batch * _row_bytes(config, tokens, dtype), codec)


def listening_bytes(token_lm: TokenLM, config: LlamaConfig, passages: int, *, half: bool) -> int:
    """Return what speaking so many passages of usual length at once needs while a network is trained, for a plan.

    Args:
        token_lm: The model.
        config: Of the network.
        passages: How many.
        half: Whether keys and values are computed in 16 bits.
    """
    from tts_train.training.listen.samples import RUNAWAY

    cut_off = round(RUNAWAY * token_lm.utterance_tokens + token_lm.layout.tokens_per_second)
    dtype = torch.bfloat16 if half else torch.float32
    return generation_bytes(token_lm, config, min(passages, MOST), PROMPT + cut_off, dtype)


def _row_bytes(config: LlamaConfig, tokens: int, dtype: torch.dtype) -> int:
    size = torch.empty((), dtype=dtype, device="meta").element_size()
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # While a cache moves to one twice as large, both are there.
    cache = layers * 2 * bucket(tokens, tokens) * heads * width * size * 3 // 2
    prompt = PROMPT * (3 * config.intermediate_size + 8 * config.hidden_size) * size
    return int(cache + config.vocab_size * (_LOGITS + _SEARCH) + prompt)


def rows_that_fit(lm: LlamaForCausalLM, tokens: int) -> int:
    """Return how many utterances of up to ``tokens`` ids, prompt included, are to be generated at once, at least 1."""
    device = lm.lm_head.weight.device
    free = free_bytes(device)
    if free is None:
        return MOST_ON_CPU
    return max(1, min(MOST, int(0.9 * free) // _row_bytes(lm.config, tokens, cache_type(lm))))
