"""SNAC's network, from a folder, the hub or a hash of names, checked against Orpheus's layout; plain tensors only."""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_train.contract import ConfigError, UnsafeFileError
from tts_train.weights import from_hub
from tts_train_orpheus import layout

if TYPE_CHECKING:
    from snac import SNAC
    from torch import nn


_STEP, _MIX_1, _MIX_2 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


def hash_uniform(count: int, seed: int) -> NDArray[np.float64]:
    """Return ``count`` numbers in [0, 1): a 32-bit hash of 0, 1, 2… that begins at ``seed`` (murmur3's finaliser)."""
    # Whole numbers only: generators change with versions, and tests hold codes to the last one.
    h = np.arange(count, dtype=np.uint32) * _STEP + np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= _MIX_1
    h ^= h >> np.uint32(13)
    h *= _MIX_2
    h ^= h >> np.uint32(16)
    return np.asarray(h / 2.0**32, dtype=np.float64)


def hash_signed(name: str, count: int) -> NDArray[np.float64]:
    """Return ``count`` numbers in [-1, 1) that depend on a name."""
    return 2.0 * hash_uniform(count, zlib.crc32(name.encode())) - 1.0


def fill_snac(network: nn.Module, *, salt: str = "") -> None:
    """Fill a SNAC, as the ``snac`` package builds it, so that its codes are well spread and its sound stays finite.

    Another ``salt`` gives other weights. Rotary frequencies stay as they are.
    """
    import torch

    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            # Frequencies of positions are computed and not learnt.
            if not name.endswith("inv_freq"):
                # By name, so that a layer that is added or moved leaves the weights of the others as they are.
                values = _scaled(name, tensor.ndim, hash_signed(salt + name, tensor.numel()))
                tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))


def _scaled(name: str, dims: int, r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each kind of weight its size; a weight-normed convolution keeps its gain in ``original0``."""
    # Sizes by kind: with one for all, codes would not spread and the sound would not stay finite.
    if name.endswith("original0"):
        return 0.7 * (1 + 0.25 * r)
    if name.endswith(("original1", "codebook.weight")):
        return r
    if name.endswith("alpha"):
        return 1 + 0.3 * r
    if name.endswith("bias"):
        return 0.02 * r
    return 1 + 0.1 * r if dims == 1 else 0.08 * r


def tiny_config() -> dict[str, Any]:
    """Return the dimensions of the tiny SNAC: 1/6 of the width, the same rates, levels and codebook size."""
    return {
        "sampling_rate": layout.SAMPLE_RATE,
        "encoder_dim": 8,
        "encoder_rates": [2, 4, 8, 8],
        "decoder_dim": 64,
        "decoder_rates": [8, 8, 4, 2],
        "attn_window_size": None,
        "codebook_size": layout.CODEBOOK_SIZE,
        "codebook_dim": 8,
        "vq_strides": [4, 2, 1],
        "noise": True,
        "depthwise": True,
    }


def build_snac(config: Mapping[str, Any], weights: Mapping[str, Tensor] | None, source: str) -> SNAC:
    """Build the ``snac`` package's network from its config; no weights means the hash fill.

    Raises:
        ConfigError: if the config has unknown keys or the weights are not those of this network.
    """
    from snac import SNAC

    try:
        network: SNAC = SNAC(**config)
        if weights is None:
            fill_snac(network)
        else:
            network.load_state_dict(dict(weights))
    # The first is an unknown entry of config.json, the second weights of other names or shapes.
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"{source!r} is not a SNAC: {error}. Orpheus uses hubertsiuzdak/snac_24khz.") from error
    return network


def frame_samples_of(network: SNAC) -> int:
    """Return the samples that an encoder pads to: its hop times the coarsest stride, and whole attention windows."""
    # Asked of the network itself, which pads by a rule of its own.
    return int(network.preprocess(torch.zeros(1, 1, 1)).shape[-1])


def snac_fingerprint(network: SNAC) -> str:
    """Return ``snac-`` and 16 hex digits of a hash over the weights, their names, shapes and the layout."""
    # Rates change codes without changing a weight.
    facts = [network.sampling_rate, network.encoder_rates, network.vq_strides, network.attn_window_size]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"snac-{digest.hexdigest()[:16]}"


def check_layout(network: SNAC, source: str) -> None:
    """Check that a SNAC speaks in Orpheus's frames.

    Raises:
        ConfigError: naming each dimension that is different.
    """
    needed = {
        "sampling_rate": (network.sampling_rate, layout.SAMPLE_RATE),
        "samples a frame": (frame_samples_of(network), layout.FRAME_SAMPLES),
        "codebook_size": (network.codebook_size, layout.CODEBOOK_SIZE),
        "vq_strides": ([network.vq_strides[0] // stride for stride in network.vq_strides], list(layout.LEVEL_RATES)),
    }
    wrong = [f"{name} {found} instead of {due}" for name, (found, due) in needed.items() if found != due]
    if wrong:
        raise ConfigError(f"{source!r} is no codec for Orpheus: {', '.join(wrong)}. Use hubertsiuzdak/snac_24khz.")


def bake(network: SNAC) -> SNAC:
    """Compute, for good, the weight-normed weights once instead of at each call."""
    from torch.nn.utils import parametrize

    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return network


CONFIG, SAFE, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"


def read_snac(source: str) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Return the config and the weights of a SNAC in a folder or on the hub; safetensors come first.

    Raises:
        ConfigError: if a file is missing or cannot be read.
        UnsafeFileError: if the weights are a pickle of anything but tensors.
    """
    folder = Path(source) if Path(source).is_dir() else _download(source)
    # Where both are there the pickle is not touched.
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
        # Refuses everything but tensors and plain containers before any of it runs.
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # There is no option that opens it anyway: such a file can run code.
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
