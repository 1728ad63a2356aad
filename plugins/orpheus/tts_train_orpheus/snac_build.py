"""SNAC's network built from its config, checked against Orpheus's layout and made ready for use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.contract import ConfigError
from tts_train_orpheus import layout
from tts_train_orpheus.snac_fill import fill_snac

if TYPE_CHECKING:
    from snac import SNAC


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
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"{source!r} is not a SNAC: {error}. Orpheus uses hubertsiuzdak/snac_24khz.") from error
    return network


def frame_samples_of(network: SNAC) -> int:
    """Return the samples that an encoder pads to: its hop times the coarsest stride, and whole attention windows."""
    return int(network.preprocess(torch.zeros(1, 1, 1)).shape[-1])


def snac_fingerprint(network: SNAC) -> str:
    """Return ``snac-`` and 16 hex digits of a hash over the weights, their names, shapes and the layout."""
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
