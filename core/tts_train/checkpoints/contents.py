"""What a checkpoint directory holds: files of tensors and the rest of Lightning's checkpoint, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tts_train.checkpoints.staging import Staging, copied
from tts_train.checkpoints.tensors import TensorFile
from tts_train.checkpoints.tree import Json, Keys, encode

STEMS = {"state_dict": "model", "optimizer_states": "optimizer"}
"""Top-level keys of the checkpoint whose tensors have a file of their own, and its stem."""

# Constructor arguments: the run card has the configuration, and class names are never read from a checkpoint.
_LEFT_OUT = frozenset(
    f"{prefix}{key}"
    for prefix in ("", "datamodule_")
    for key in ("hyper_parameters", "hparams_name", "hparams_type", "hyper_parameters_type")
)


class Contents:
    """What a checkpoint directory will hold: files of tensors, by reference until they are staged, and the rest."""

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        self.files: dict[str, TensorFile] = {}
        self.state: Json = encode(to_keep(checkpoint), self._sink)
        self.step = step_of(checkpoint)
        self.nbytes = sum(file.nbytes for file in self.files.values())

    def stage(self, room: Staging) -> list[torch.cuda.Event]:
        """Copy the tensors into ``room``, and return what must have happened before the copies are read."""
        devices = set().union(*(file.devices for file in self.files.values()))
        room.begin(self.nbytes, pinned=any(device.type == "cuda" for device in devices))
        for file in self.files.values():
            file.stage(room)
        return copied(devices)

    def _sink(self, keys: Keys, tensor: torch.Tensor) -> dict[str, Any]:
        stem, rest = place(keys)
        name = f"{stem}.safetensors"
        return self.files.setdefault(name, TensorFile(name)).add(rest, tensor)


def to_keep(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of Lightning's checkpoint is written."""
    kept = {key: value for key, value in checkpoint.items() if key not in _LEFT_OUT}
    # torch upgrades old weights by these versions of their modules; they ride on the dictionary as an attribute.
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", None)
    if metadata is not None:
        kept["state_dict_metadata"] = {key: dict(value) for key, value in metadata.items()}
    return kept


def place(keys: Keys) -> tuple[str, Keys]:
    """Return the stem of the file in which a tensor of the checkpoint lies, and the keys that name it there."""
    stem = STEMS.get(keys[0])
    return ("state", keys) if stem is None else (stem, keys[1:])


def step_of(checkpoint: Mapping[str, Any]) -> int:
    """Return the optimiser step of Lightning's checkpoint."""
    return int(checkpoint.get("global_step", 0))
