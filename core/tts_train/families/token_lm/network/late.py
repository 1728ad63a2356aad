"""A network on ``meta``: for a plan, which reads no weight, and for a base that is read while it is sharded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from tts_train.checkpoints.stored import StoredTensor
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.network.adapters import LoraOptions, Method, apply_method
from tts_train.families.token_lm.network.build import build_network
from tts_train.families.token_lm.network.network import HeadOptions, TokenNetwork
from tts_train.families.token_lm.network.restore import PREFIX, initial_config
from tts_train.families.token_lm.network.start import TINY, TinyOptions, empty_network
from tts_train.memory.step.shapes import QuantisedShape
from tts_train.run.checkpoint import is_run
from tts_train.sharding.loading import safetensors_folder
from tts_train.weights.hub import unreachable

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
    # Released sizes are known, so that planning needs no download of a gated model.
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


_CHUNK = 4096


def reads_late(init_from: str) -> bool:
    """Tell whether a base can be read by rows: a folder of safetensors or a hub name, no run of ours."""
    folder = _folder(init_from)
    return folder is not None and any(folder.glob("*.safetensors")) and not is_run(folder)


def late_network(token_lm: TokenLM, init_from: str, head: HeadOptions, *, dtype: torch.dtype) -> TokenNetwork:
    """Build the network of a base on ``meta``, with as many rows as the layout has."""
    lm = empty_network(
        initial_config(token_lm, init_from), dtype=dtype, device="meta", network_class=token_lm.network_class
    )
    return build_network(lm, token_lm.layout, head)


def late_weights(token_lm: TokenLM, init_from: str, network: TokenNetwork) -> Mapping[str, StoredTensor]:
    """Return where each weight of a base is read from, by its name in the module.

    Args:
        token_lm: The model.
        init_from: The base.
        network: What :func:`late_network` built, sharded or not.
    """
    folder = _folder(init_from)
    assert folder is not None, "reads_late() was asked before"
    stored = safetensors_folder(folder)
    lm, found = network.lm, dict[str, StoredTensor]()
    tables = [id(lm.lm_head.weight), id(lm.get_input_embeddings().weight)] if token_lm.optional_rows else []
    # A tied weight is stored once, under whichever of its names transformers keeps.
    named = [(name, id(weight)) for name, weight in lm.named_parameters(remove_duplicate=False)]
    sources = {weight: stored[name] for name, weight in named if name in stored}
    for name, weight in named:
        if weight in sources:
            source, rows = sources[weight], token_lm.layout.output_rows
            found[f"{PREFIX}lm.{name}"] = _with_rows(source, rows) if weight in tables else source
    return found


class WithMeanRows(StoredTensor):
    """A table with rows behind its own, each the mean of those, as ``load_base`` adds them.

    Args:
        table: As it is stored.
        rows: How many it is to have.
    """

    def __init__(self, table: StoredTensor, rows: int) -> None:
        self.by_rows = False
        self._table = table
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The table's, with the added rows."""
        return self._rows, self._table.shape[1]

    def whole(self) -> Tensor:
        """Return all of it."""
        return self.rows(0, self.shape[0])

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows ``start`` to below ``stop``; only a process that holds an added row reads all others for it."""
        stored = self._table.shape[0]
        read = self._table.rows(min(start, stored), min(stop, stored))
        added = stop - max(start, stored)
        return read if added <= 0 else torch.cat([read, self._mean().to(read.dtype).expand(added, -1)])

    def _mean(self) -> Tensor:
        count, width = self._table.shape
        # As load_base has it in one piece: sums over all rows must not lose digits on the way.
        total = torch.zeros(1, width, dtype=torch.float64)
        for first in range(0, count, _CHUNK):
            chunk = self._table.rows(first, min(first + _CHUNK, count))
            total += chunk.sum(dim=0, keepdim=True, dtype=torch.float64)
        return total / count


def _folder(init_from: str) -> Path | None:
    """Return where a base's files lie, fetched first if it has a hub name; None where ``load_base`` is to say why."""
    folder = Path(init_from).expanduser()
    if init_from == TINY or folder.is_dir():
        return None if init_from == TINY else folder
    from huggingface_hub import snapshot_download

    # Not the pickles that some repositories hold beside them.
    wanted = ["*.safetensors", "*.json"]
    try:
        return Path(snapshot_download(init_from, allow_patterns=wanted, local_files_only=unreachable()))
    except (OSError, ValueError):
        return None


def _with_rows(table: StoredTensor, rows: int) -> StoredTensor:
    return WithMeanRows(table, rows) if table.shape[0] < rows else table
