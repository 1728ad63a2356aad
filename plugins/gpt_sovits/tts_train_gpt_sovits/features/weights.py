"""Weights of foreign networks: read without running anything, filled in by name, told apart by a fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from tts_train.contract import DataError
from tts_train.weights import read_safetensors, read_torch

TINY = "tiny"
"""The source that makes a small network of chance."""
_COUNTER = ".num_batches_tracked"
_CONFIG, _SAFE, _PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the weights of a transformers folder; safetensors come before a pickle.

    Raises:
        DataError: if a file is missing or is not what its name says.
        UnsafeFileError: if the weights could run code.
    """
    # The pickle is read by a reader that runs nothing in it.
    path = next((folder / name for name in (_SAFE, _PICKLED) if (folder / name).is_file()), None)
    if path is None or not (folder / _CONFIG).is_file():
        raise DataError(f"{folder} must hold {_CONFIG} and {_SAFE} or {_PICKLED}. Download the whole folder.")
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{folder / _CONFIG} is not JSON: {error}. Download it again.") from error
    if not isinstance(config, dict):
        raise DataError(f"{folder / _CONFIG} must hold an object. Download it again.")
    weights = read_safetensors(path)[0] if path.name == _SAFE else read_tensors(path)
    return config, weights


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a torch file that is nothing but a table of tensors.

    Raises:
        DataError: if it holds anything else.
        UnsafeFileError: if it could run code.
    """
    content = read_torch(path)
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise DataError(f"{path} must hold names and tensors only. Download it again.")
    return {str(name): tensor for name, tensor in content.items()}


def fill(network: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Copy weights into a network by name, as float32; names that the network lacks are left alone.

    Counters of a norm's training steps may be missing.

    Raises:
        DataError: if a tensor is missing or of another shape; every such name is listed.
    """
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTER)}
    faults = [f"{name} is missing" for name in state if name not in weights]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in state.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if faults:
        listed = "\n  ".join(faults[:20])
        raise DataError(f"{source} does not fit this network, {len(faults)} names differ:\n  {listed}")
    network.load_state_dict({name: weights[name] for name in state}, strict=False)


def freeze(network: nn.Module, device: str | torch.device) -> None:
    """Put a network that only answers into evaluation mode on a device, without gradients."""
    network.requires_grad_(False).eval().to(device)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return 32 hexadecimal digits that names, types, shapes and every bit of the tensors decide."""
    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Bits, not values, so that 0 and -0 differ.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return str(digest.hexdigest())


def draw(network: nn.Module, seed: int) -> None:
    """Fill a network's weights from a seed alone, the same on every machine, at the scale of their inputs.

    Matrices become normal with variance 1 / inputs, biases 0; the weights of norms keep their ones.
    """
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=source)
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)
            elif not name.endswith("weight"):
                parameter.zero_()
