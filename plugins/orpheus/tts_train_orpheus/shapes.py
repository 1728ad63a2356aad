"""Orpheus without its weights, for ``tts-train plan``: the network of a recipe on ``meta``, and a batch for it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig

from tts_train.memory.quantised import QuantisedShape
from tts_train_orpheus import layout
from tts_train_orpheus.adapters import LoraOptions, Method, apply_method
from tts_train_orpheus.base import TINY, TinyOptions, base_config, empty_network
from tts_train_orpheus.batch import Document
from tts_train_orpheus.network import HeadOptions, OrpheusNetwork
from tts_train_orpheus.restore import initial_config

RELEASED = TinyOptions(hidden=3072, layers=28, heads=24, kv_heads=8, mlp=8192)
"""Size of every released model, 3.3 billion parameters; a plan needs neither their files nor a network."""
_RELEASES = ("canopylabs/", "unsloth/orpheus-3b")

UTTERANCE_TOKENS = 350
"""A usual clip: 15 words and 4 seconds."""
_TEXT_TOKENS = 20


def shape_network(
    init_from: str, *, method: Method, lora: LoraOptions, head: HeadOptions, dtype: torch.dtype, tiny: TinyOptions
) -> OrpheusNetwork:
    """Build on ``meta`` what ``OrpheusModule.configure_model`` would load.

    Raises:
        ConfigError: if the base is neither a released model nor at hand.
    """
    network = OrpheusNetwork(empty_network(shape_config(init_from, tiny), dtype=dtype, device="meta"), head)
    if method in ("qlora", "lora-8bit"):
        _quantise(network, 4 if method == "qlora" else 8)
    apply_method(network, "full" if method == "full" else "lora", lora)
    return network


def shape_config(init_from: str, tiny: TinyOptions) -> LlamaConfig:
    """Return a base's configuration; that of released models is known here."""
    return base_config(TINY, RELEASED) if init_from.startswith(_RELEASES) else initial_config(init_from, tiny)


def sample_documents(tokens: int, *, length: int = UTTERANCE_TOKENS, speech_only: bool = False) -> list[Document]:
    """Return documents of ``length`` tokens, the last one shorter, ``tokens`` in all, with ids where data has them."""
    sizes = [length] * (tokens // length) + [tokens % length] * (tokens % length > 0)
    return [_document(size, speech_only=speech_only) for size in sizes]


def _document(size: int, *, speech_only: bool) -> Document:
    text = min(_TEXT_TOKENS, max(size - 1, 0))
    audio = np.arange(size - text)
    ids = np.concatenate([np.arange(text), layout.AUDIO_BASE + layout.CODEBOOK_SIZE * (audio % layout.SLOTS)])
    seconds = len(audio) / layout.TOKENS_PER_SECOND
    return Document(id="planned", input_ids=ids, learn_from=text if speech_only else 0, seconds=seconds)


def _quantise(network: OrpheusNetwork, bits: Literal[4, 8]) -> None:
    for layer in network.lm.model.layers:
        for name, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear):
                layer.set_submodule(name, QuantisedShape(module, bits))
