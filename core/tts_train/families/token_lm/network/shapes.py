"""A network without its weights, for ``tts-train plan``: the network of a recipe on ``meta``, and a batch for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig

from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.network.adapters import LoraOptions, Method, apply_method
from tts_train.families.token_lm.network.build import build_network
from tts_train.families.token_lm.network.network import HeadOptions, TokenNetwork
from tts_train.families.token_lm.network.restore import initial_config
from tts_train.families.token_lm.network.start import TinyOptions, empty_network
from tts_train.memory.step.shapes import QuantisedShape

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM


def shape_network(
    token_lm: TokenLM,
    init_from: str,
    *,
    method: Method,
    lora: LoraOptions,
    head: HeadOptions,
    dtype: torch.dtype,
    tiny: TinyOptions,
) -> TokenNetwork:
    """Build on ``meta`` what ``TokenModule.configure_model`` would load.

    Raises:
        ConfigError: if the base is neither a released model nor at hand.
    """
    config = shape_config(token_lm, init_from, tiny)
    lm = empty_network(config, dtype=dtype, device="meta", network_class=token_lm.network_class)
    network = build_network(lm, token_lm.layout, head)
    if method in ("qlora", "lora-8bit"):
        _quantise(network, 4 if method == "qlora" else 8)
    apply_method(network, "full" if method == "full" else "lora", lora)
    return network


def shape_config(token_lm: TokenLM, init_from: str, tiny: TinyOptions) -> PretrainedConfig:
    """Return a base's configuration; that of released models needs no files."""
    return token_lm.released_config(init_from) or initial_config(token_lm, init_from, tiny)


def sample_documents(
    token_lm: TokenLM, tokens: int, *, length: int | None = None, speech_only: bool = False
) -> list[Document]:
    """Return documents of ``length`` tokens, the last one shorter, ``tokens`` in all, with ids where data has them.

    Args:
        token_lm: The model.
        tokens: In all documents.
        length: Tokens of a document; None for those of a usual clip.
        speech_only: Whether only the audio is learnt.
    """
    length = length or token_lm.utterance_tokens
    sizes = [length] * (tokens // length) + [tokens % length] * (tokens % length > 0)
    return [_document(token_lm, size, speech_only=speech_only) for size in sizes]


def _document(token_lm: TokenLM, size: int, *, speech_only: bool) -> Document:
    layout, text = token_lm.layout, min(token_lm.prompt_tokens, max(size - 1, 0))
    audio = np.arange((size - text) * layout.slots // layout.frame_positions)
    ids = np.concatenate([np.arange(text), layout.audio_base + layout.codebook_size * (audio % layout.slots)])
    seconds = len(audio) / layout.tokens_per_second
    return Document(id="planned", input_ids=ids, learn_from=text if speech_only else 0, seconds=seconds)


def _quantise(network: TokenNetwork, bits: Literal[4, 8]) -> None:
    for layer in (layer for stack in network.stacks for layer in stack.layers):
        for name, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear):
                layer.set_submodule(name, QuantisedShape(module, bits))
