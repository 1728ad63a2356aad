"""SNAC's config and weights from a folder or the hub; weights are read as plain tensors only."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_train.contract import ConfigError, UnsafeFileError
from tts_train.weights import from_hub

CONFIG, SAFE, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"


def read_snac(source: str) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Return the config and the weights of a SNAC in a folder or on the hub; safetensors come first.

    Raises:
        ConfigError: if a file is missing or cannot be read.
        UnsafeFileError: if the weights are a pickle of anything but tensors.
    """
    folder = Path(source) if Path(source).is_dir() else _download(source)
    path = next((folder / name for name in (SAFE, PICKLED) if (folder / name).is_file()), None)
    if path is None or not (folder / CONFIG).is_file():
        raise ConfigError(f"A SNAC folder holds {CONFIG} and {SAFE} or {PICKLED}; {folder} does not.")
    return _read_config(folder / CONFIG), _read_weights(path)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}. Download it again.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must hold an object with the codec's dimensions. Download it again.")
    return config


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        return _read_safe(path) if path.name == SAFE else _read_pickled(path)
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Download it again.") from error


def _read_safe(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read_pickled(path: Path) -> Mapping[str, Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        advice = f"Use a {SAFE}, or weights from a source you trust that hold tensors only."
        raise UnsafeFileError(f"{path} is a pickle of more than tensors, so it is not opened. {advice}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(f"{path} must hold a state dict: names and tensors.")
    return weights


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, SAFE, PICKLED]
    advice = "Give --codec a folder, a name such as hubertsiuzdak/snac_24khz, or 'tiny'."
    with from_hub(source, failed=f"No codec could be loaded from {source!r}:", advice=advice) as cached:
        return Path(snapshot_download(source, allow_patterns=wanted, local_files_only=cached))
