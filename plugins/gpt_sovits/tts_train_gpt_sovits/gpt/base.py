"""The network that training starts from: a GPT file of GPT-SoVITS, or a small one of chance."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.files import read_s1
from tts_train_gpt_sovits.gpt.names import config_from_upstream, from_upstream
from tts_train_gpt_sovits.gpt.network import GptConfig, GptNetwork

TINY = "tiny"
"""The source that makes a small network of chance."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TinyOptions:
    """Sizes of the network that ``init_from: tiny`` makes."""

    phonemes: int = 732
    """Rows of the phoneme table."""
    width: int = 32
    """Channels; a multiple of twice ``heads``."""
    heads: int = 2
    """Attention heads."""
    layers: int = 2
    """Layers."""

    def __post_init__(self) -> None:
        if min(self.phonemes, self.width, self.heads, self.layers) < 1 or self.width % (2 * self.heads):
            raise ConfigError(f"--model.tiny needs sizes of 1 or more, width a multiple of twice heads; it is {self}.")


def load_network(source: str, *, tiny: TinyOptions, dropout: float) -> GptNetwork:
    """Return the network of a GPT file in float32, or a small one of chance for ``tiny``.

    Raises:
        ConfigError: if the file's sizes or tensors are not those of this network.
        DataError: if it is no GPT file.
        UnsafeFileError: if it could run code.
    """
    if source == TINY:
        sizes = GptConfig(tiny.phonemes, width=tiny.width, heads=tiny.heads, layers=tiny.layers, dropout=dropout)
        return GptNetwork(sizes)
    file = read_s1(Path(source))
    model = file.config.get("model", {})
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source} does not say its sizes. Give a GPT file of GPT-SoVITS.")
    with torch.device("meta"):
        network = GptNetwork(replace(config_from_upstream(model), dropout=dropout))
    network.to_empty(device="cpu")
    network.load_state_dict(
        {name: tensor.float() for name, tensor in from_upstream(file.weights, network.state_dict()).items()}
    )
    logger.info(
        "GPT %s from %s, %s parameters.", file.recognised.version, source, sum(p.numel() for p in network.parameters())
    )
    return network
