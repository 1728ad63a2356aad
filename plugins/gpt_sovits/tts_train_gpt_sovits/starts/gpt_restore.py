"""A network from what a run of ours kept: to speak, to export, or to be the base of the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tts_train.contract import Checkpoint, ConfigError, DataError, check_names, is_run, open_checkpoint
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.released import recognise
from tts_train_gpt_sovits.released.gpt_names import to_upstream
from tts_train_gpt_sovits.starts.adapters import GptLoraOptions, adapt_gpt, merged_state, trained_names
from tts_train_gpt_sovits.starts.gpt_base import TINY, TinyGptOptions, filled, load_base, source_path

DESCRIPTION = "gpt_config"
"""The key of a checkpoint that holds the network's sizes, as upstream writes them."""
PREFIX = "network."
"""What stands before the network's names in a module's ``state_dict``."""
STAGES = ("gpt", "dpo")
"""The stages that train this network."""


def load_initial(
    source: str,
    *,
    tiny: TinyGptOptions = TinyGptOptions(),  # noqa: B008 - frozen
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
    if options.get("method", "full") == "full":
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
