"""A base that is read while it is sharded: its network on ``meta``, and where each of its weights lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tts_train.checkpoints.stored import StoredTensor
from tts_train.hub import unreachable
from tts_train.run.checkpoint import is_run
from tts_train.sharding.loading import safetensors_folder
from tts_train_orpheus import layout
from tts_train_orpheus.base import TINY, empty_network
from tts_train_orpheus.network import HeadOptions, OrpheusNetwork
from tts_train_orpheus.restore import PREFIX, initial_config

_CHUNK = 4096
_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def reads_late(init_from: str) -> bool:
    """Tell whether a base can be read by rows: a folder of safetensors or a hub name, no run of ours."""
    folder = _folder(init_from)
    return folder is not None and any(folder.glob("*.safetensors")) and not is_run(folder)


def late_network(init_from: str, head: HeadOptions, *, dtype: torch.dtype) -> OrpheusNetwork:
    """Build the network of a base on ``meta``, with 156,940 rows."""
    return OrpheusNetwork(empty_network(initial_config(init_from), dtype=dtype, device="meta"), head)


def late_weights(init_from: str) -> Mapping[str, StoredTensor]:
    """Return where each weight of a base is read from, by its name in the module."""
    folder = _folder(init_from)
    assert folder is not None, "reads_late() was asked before"
    stored = safetensors_folder(folder)
    full = {name: _with_audio_row(tensor) if name in _TABLES else tensor for name, tensor in stored.items()}
    return {f"{PREFIX}lm.{name}": tensor for name, tensor in full.items()}


class WithMeanRow(StoredTensor):
    """A table with one row more, the mean of the others, as ``load_base`` adds it for ``<|audio|>``."""

    def __init__(self, table: StoredTensor) -> None:
        self.by_rows = False
        self._table = table

    @property
    def shape(self) -> tuple[int, ...]:
        """The table's, with the row."""
        rows, width = self._table.shape
        return rows + 1, width

    def whole(self) -> Tensor:
        """Return all of it."""
        return self.rows(0, self.shape[0])

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows ``start`` to below ``stop``; only a process that holds the last row reads the others for it."""
        last = self.shape[0] - 1
        read = self._table.rows(start, min(stop, last))
        return read if stop <= last else torch.cat([read, self._mean().to(read.dtype)])

    def _mean(self) -> Tensor:
        count, width = self._table.shape
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

    wanted = ["*.safetensors", "*.json"]
    try:
        return Path(snapshot_download(init_from, allow_patterns=wanted, local_files_only=unreachable()))
    except (OSError, ValueError):
        return None


def _with_audio_row(table: StoredTensor) -> StoredTensor:
    return WithMeanRow(table) if table.shape[0] < layout.VOCAB_SIZE else table
