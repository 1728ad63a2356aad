"""The network that training starts from: a file of upstream's, a released version, or a small one of chance."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_train.contract import ConfigError
from tts_train.nn import drawn_on_cpu
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.released import TrainingFile, read_s1, read_training, recognise
from tts_train_gpt_sovits.released.gpt_names import config_from_upstream, from_upstream
from tts_train_gpt_sovits.signal.sizes import GptConfig

TINY = "tiny"
"""The source that makes a small network of chance."""

_SEED = 0x5EED

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TinyGptOptions:
    """Sizes of the network that ``init_from: tiny`` makes; the same numbers give the same network."""

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


def load_base(source: str, *, tiny: TinyGptOptions = TinyGptOptions(), dropout: float = 0.0) -> GptNetwork:
    """Return the network of a source in float32.

    Args:
        source: A GPT file of GPT-SoVITS for inference, a checkpoint of its ``logs_s1*/ckpt``, the name of a released
            version, or ``tiny``.
        tiny: Sizes for the last.
        dropout: Share dropped in training.

    Raises:
        ConfigError: if the file's sizes or tensors are not those of this network.
        DataError: if it is no GPT file.
        UnsafeFileError: if it could run code.
    """
    if source == TINY:
        with drawn_on_cpu(_SEED):
            return GptNetwork(
                GptConfig(tiny.phonemes, width=tiny.width, heads=tiny.heads, layers=tiny.layers, dropout=dropout)
            )
    path = source_path(source)
    training = recognise(path).kind == "s1_training"
    file = read_training(path) if training else read_s1(path)
    network = filled(_model_table(file.config, source), file.weights, dropout=dropout)
    count = sum(parameter.numel() for parameter in network.parameters())
    logger.info("GPT %s from %s, %s parameters.", file.recognised.version, source, count)
    return network


def load_training(source: str) -> TrainingFile:
    """Return what a checkpoint of upstream's ``logs_s1*/ckpt`` holds besides weights.

    Raises:
        ConfigError: if the source is something else.
    """
    path = None if source == TINY else source_path(source)
    if path is None or path.is_dir() or recognise(path).kind != "s1_training":
        raise ConfigError(
            f"--model.continue_optimizer needs a checkpoint of GPT-SoVITS's logs_s1*/ckpt as --model.init_from, and "
            f"{source} is none: files for inference hold weights only. Leave the option out."
        )
    return read_training(path)


def filled(model: Mapping[str, Any], weights: Mapping[str, Tensor], *, dropout: float = 0.0) -> GptNetwork:
    """Return a float32 network of upstream's sizes with upstream's tensors."""
    with torch.device("meta"):
        network = GptNetwork(replace(config_from_upstream(model), dropout=dropout))
    network.to_empty(device="cpu")
    ours = from_upstream(weights, network.state_dict())
    network.load_state_dict({name: tensor.float() for name, tensor in ours.items()})
    return network


def source_path(source: str) -> Path:
    """Return the file that a source names; a released version's is fetched if it is not here."""
    # Fetching needs the hub's client, which nothing else here does.
    from tts_train_gpt_sovits.released.bases import base_file

    return base_file(source, "s1")


def _model_table(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    model = config.get("model", {})
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source} does not say its sizes. Give a GPT file of GPT-SoVITS.")
    return model
