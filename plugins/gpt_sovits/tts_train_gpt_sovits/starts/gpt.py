"""The GPT that training starts from: a file of upstream's, a released version, a run, or a small one of chance."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_train.contract import Checkpoint, ConfigError, DataError, check_names, is_run, open_checkpoint
from tts_train.nn import drawn_on_cpu
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.released import TrainingFile, WeightsFile, read_s1, read_training, recognise
from tts_train_gpt_sovits.released.gpt_names import config_from_upstream, from_upstream, to_upstream
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.starts.adapters import GptLoraOptions, adapt_gpt, merged_state, trained_names

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
            return GptNetwork(_tiny_config(tiny, dropout=dropout))
    file = _read_file(source)
    network = filled(_model_table(file.config, source), file.weights, dropout=dropout)
    count = sum(parameter.numel() for parameter in network.parameters())
    logger.info("GPT %s from %s, %s parameters.", file.recognised.version, source, count)
    return network


def planned_network(source: str) -> GptNetwork:
    """Return on ``meta`` the network that `load_initial` would load; of a released version without its file."""
    path = Path(source).expanduser()
    if source == TINY:
        config = _tiny_config(TinyGptOptions())
    elif is_run(path):
        config = config_from_upstream(_gpt_run(path).state(DESCRIPTION)[DESCRIPTION])
    elif path.exists():
        config = config_from_upstream(_model_table(_read_file(source).config, source))
    else:
        config = GptConfig()
    with torch.device("meta"):
        return GptNetwork(config)


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
    # Without initialising what is overwritten at once.
    network.to_empty(device="cpu")
    ours = from_upstream(weights, network.state_dict())
    network.load_state_dict({name: tensor.float() for name, tensor in ours.items()})
    return network


def source_path(source: str) -> Path:
    """Return the file that a source names; a released version's is fetched if it is not here."""
    # Fetching needs the hub's client, which nothing else here does.
    from tts_train_gpt_sovits.released.bases import base_file

    return base_file(source, "s1")


def _tiny_config(tiny: TinyGptOptions, *, dropout: float = 0.0) -> GptConfig:
    return GptConfig(tiny.phonemes, width=tiny.width, heads=tiny.heads, layers=tiny.layers, dropout=dropout)


def _read_file(source: str) -> WeightsFile | TrainingFile:
    path = source_path(source)
    return read_training(path) if recognise(path).kind == "s1_training" else read_s1(path)


def _model_table(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    model = config.get("model", {})
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source} does not say its sizes. Give a GPT file of GPT-SoVITS.")
    return model


DESCRIPTION = "gpt_config"
"""The key of a checkpoint that holds the network's sizes, as upstream writes them."""
PREFIX = "network."
"""What stands before the network's names in a module's ``state_dict``."""
STAGES = ("gpt", "dpo")
"""The stages that train this network."""


def load_initial(
    source: str,
    *,
    tiny: TinyGptOptions = TinyGptOptions(),
    dropout: float = 0.0,
) -> GptNetwork:
    """Load what ``--model.init_from`` names, a run of ours included: its adapters become part of the network."""
    path = Path(source).expanduser()
    return load_run(path, dropout=dropout) if is_run(path) else load_base(source, tiny=tiny, dropout=dropout)


def check_source(source: str) -> None:
    """Refuse a source that `load_initial` could not read, by its first bytes; a released version's file is fetched.

    Raises:
        ConfigError: if there is no such file, or it is another network.
        DataError: if it is a run of another stage, or no file of GPT-SoVITS.
    """
    path = Path(source).expanduser()
    if is_run(path):
        _gpt_run(path)
    elif source != TINY and not (kind := recognise(source_path(source)).kind).startswith("s1"):
        raise ConfigError(f"{source} is {kind}, and a GPT is wanted here: give a run, a GPT file or a version's name.")


def load_run(source: Path | Checkpoint, *, dropout: float = 0.0) -> GptNetwork:
    """Rebuild the network of a run's checkpoint on the CPU in float32; adapters are merged into it.

    Args:
        source: A run directory, one of its checkpoints, or an opened one.
        dropout: Share dropped in training.

    Raises:
        DataError: if there is none, it is damaged, or of another backend or stage.
        ConfigError: if the weights do not fit the run's arguments, or an adapter's base cannot be loaded.
    """
    checkpoint = _gpt_run(source)
    sizes = checkpoint.state(DESCRIPTION)[DESCRIPTION]
    given = {name.removeprefix(PREFIX): tensor for name, tensor in checkpoint.weights().items()}
    options = checkpoint.card.options("model", "init_from", names=(TINY,))
    # Runs of before the option was there trained every weight.
    if options.get("method", "full") == "full":
        # By way of upstream's names, for one reader checks them all.
        return filled(sizes, to_upstream(given), dropout=dropout)
    network = load_initial(options.get("init_from", TINY), tiny=TinyGptOptions(**(options.get("tiny") or {})))
    adapt_gpt(network, _lora(options.get("lora") or {}))
    check_names(set(trained_names(network)), given)
    network.load_state_dict(given, strict=False)
    return filled(sizes, merged_state(network), dropout=dropout)


def _gpt_run(source: Path | Checkpoint) -> Checkpoint:
    """Open a run's checkpoint, of a stage that trains this network."""
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    if checkpoint.card.backend != "gpt_sovits" or checkpoint.card.stage not in STAGES:
        raise DataError(
            f"{checkpoint.path} is a run of {checkpoint.card.backend} {checkpoint.card.stage}, and one of gpt_sovits "
            f"{' or '.join(STAGES)} is wanted here."
        )
    return checkpoint


def _lora(given: Mapping[str, Any]) -> GptLoraOptions:
    values: dict[str, Any] = {**given, "targets": tuple(given.get("targets", GptLoraOptions.targets))}
    return GptLoraOptions(**values)
