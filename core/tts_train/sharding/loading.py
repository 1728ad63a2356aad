"""Filling a sharded network from safetensors, each process only its own rows: nobody ever holds the whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from tts_train.checkpoints.stored import StoredTensor
from tts_train.contract.module import StageModule
from tts_train.errors import ConfigError, DataError

INDEX = "model.safetensors.index.json"


def safetensors_folder(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a folder of safetensors files by name; nothing is read yet.

    Raises:
        DataError: if it has no such files.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            # The name alone: an index from elsewhere must not reach outside of the folder.
            paths = sorted({folder / Path(name).name for name in named})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{index} does not say which file holds a tensor. Download it again.") from error
    else:
        paths = sorted(folder.glob("*.safetensors"))
    if not paths or not all(path.is_file() for path in paths):
        raise DataError(f"{folder} has no safetensors files, or its {INDEX} names some that are missing.")
    files: list[Any] = [safe_open(path, framework="pt", device="cpu") for path in paths]
    return {name: StoredTensor(name, [file]) for file in files for name in file.keys()}  # noqa: SIM118 - no mapping


def materialise(module: nn.Module, device: torch.device) -> None:
    """Give parameters on ``meta`` memory on ``device``, and fill them from ``module.stored_weights()``.

    Raises:
        ConfigError: if a parameter on ``meta`` has no source, or one of another shape.
    """
    late = {name for name, parameter in module.named_parameters() if parameter.is_meta}
    if not late:
        return
    sources = module.stored_weights() if isinstance(module, StageModule) else {}
    missing = sorted(late - set(sources))
    if missing:
        raise ConfigError(
            f"{len(missing)} parameters have no memory and stored_weights() of {type(module).__name__} names no "
            f"source for them; the first is {missing[0]}."
        )
    # Not to_empty, which would empty what has memory already, buffers among it.
    move: Any = module._apply
    move(lambda tensor: torch.empty_like(tensor, device=device) if tensor.is_meta else tensor)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in late:
                load_rows(parameter, sources[name], name)


def load_rows(target: Tensor, source: StoredTensor | Tensor, name: str) -> None:
    """Copy what ``target`` holds of a tensor from ``source``, and read no more than that.

    Raises:
        ConfigError: naming the tensor, if the shapes differ.
    """
    stored = tuple(source.shape)
    if stored != tuple(target.shape):
        raise ConfigError(f"{name} has shape {stored} where it is read and {tuple(target.shape)} in the network.")
    if isinstance(target, DTensor):
        target.to_local().copy_(own_rows(source, target.device_mesh, target.placements))
    else:
        target.copy_(source.whole() if isinstance(source, StoredTensor) else source)


def own_rows(source: StoredTensor | Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> Tensor:
    """Return what this process holds of ``source`` when it is divided as ``placements`` say."""
    shape, offset = compute_local_shape_and_global_offset(tuple(source.shape), mesh, placements)
    # A number has no rows, and every process holds it.
    if not shape:
        return source.whole() if isinstance(source, StoredTensor) else source
    start, stop = offset[0], offset[0] + shape[0]
    if shape[0] == 0:
        # With more processes than rows, torch says that the rest begin beyond the end.
        start = stop = 0
    rows = source.rows(start, stop) if isinstance(source, StoredTensor) else source[start:stop]
    own = [slice(None)] + [slice(first, first + size) for first, size in zip(offset[1:], shape[1:], strict=True)]
    return rows[tuple(own)]
