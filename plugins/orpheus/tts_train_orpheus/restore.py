"""A network from what a run of ours kept: to speak, to export, or to be the base of the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tts_train.errors import ConfigError, DataError
from tts_train.run.checkpoint import Checkpoint, check_names, is_run, open_checkpoint
from tts_train_orpheus.adapters import LoraOptions, apply_method, merge, trainable_parameters
from tts_train_orpheus.base import ATTENTION, TINY, TinyOptions, base_config, empty_network, load_base
from tts_train_orpheus.network import OrpheusNetwork

DESCRIPTION = "orpheus_config"
"""The key of a checkpoint that holds the Llama's configuration as plain values."""
PREFIX = "network."
"""What stands before the network's names in a module's ``state_dict``."""
TIED_HEAD = "lm.lm_head.weight"
"""The second name of a tied embedding, which a checkpoint leaves out."""

_DEFAULTS: Mapping[str, Any] = {"init_from": "canopylabs/orpheus-3b-0.1-pretrained", "method": "full"}

Options = TypeVar("Options", LoraOptions, TinyOptions)


def open_own(path: Path) -> Checkpoint:
    """Open a run directory or a checkpoint of this backend.

    Raises:
        DataError: if there is none, it is damaged, or it belongs to another backend.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint.card.backend != "orpheus":
        raise DataError(f"{path} is a run of backend {checkpoint.card.backend!r}, and this is Orpheus.")
    return checkpoint


def initial_config(init_from: str, tiny: TinyOptions = TinyOptions()) -> LlamaConfig:
    """Return the configuration of what ``--model.init_from`` names, a run of ours included, without weights."""
    path = Path(init_from).expanduser()
    return LlamaConfig.from_dict(described(open_own(path))) if is_run(path) else base_config(init_from, tiny)


def load_initial(
    init_from: str, *, dtype: torch.dtype = torch.float32, tiny: TinyOptions = TinyOptions()
) -> LlamaForCausalLM:
    """Load what ``--model.init_from`` names, a run of ours included: its adapters become part of the base."""
    path = Path(init_from).expanduser()
    if not is_run(path):
        return load_base(init_from, dtype=dtype, tiny=tiny)
    checkpoint = open_own(path)
    model = checkpoint.card.options("model", "init_from", names=(TINY,))
    network = load_trained(model, checkpoint.weights(), description=described(checkpoint), dtype=dtype)
    if model.get("method", "full") != "full":
        merge(network)
    network.lm.set_attn_implementation(ATTENTION)
    return network.requires_grad_(True).train().lm


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the Llama's configuration that a checkpoint holds."""
    return dict(checkpoint.state(DESCRIPTION)[DESCRIPTION])


def load_trained(
    model_config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    description: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> OrpheusNetwork:
    """Rebuild a trained network on the CPU, frozen and in evaluation mode.

    Adapters come back on an unquantised base, also those trained over 4 or 8 bits, so that ``adapters.merge`` rounds
    once; they are not merged yet.

    Args:
        model_config: The ``model`` section of the run's config.yaml (``init_from``, ``method``, ``lora``, ``tiny``).
        weights: The checkpoint's ``state_dict``.
        description: The checkpoint's ``orpheus_config``; without it the base's own configuration is read, which for a
            hub name needs the hub's files.
        dtype: Type of the result; adapters are float32 or wider.

    Raises:
        ConfigError: if the weights do not fit the arguments, or the base cannot be loaded.
    """
    config = {**_DEFAULTS, **model_config.get("init_args", model_config)}
    tiny, method = _options(TinyOptions, config.get("tiny")), config["method"]
    named = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    if method == "full":
        llama = LlamaConfig.from_dict(dict(description)) if description else initial_config(config["init_from"], tiny)
        network = OrpheusNetwork(empty_network(llama, dtype=dtype))
        expected = set(network.state_dict()) - ({TIED_HEAD} if network.tied else set())
        named = {name: value for name, value in named.items() if name in expected or name != TIED_HEAD}
    elif method in ("lora", "qlora", "lora-8bit"):
        network = OrpheusNetwork(load_initial(config["init_from"], dtype=dtype, tiny=tiny))
        apply_method(network, "lora", _options(LoraOptions, config.get("lora")))
        expected = set(trainable_parameters(network))
    else:
        raise ConfigError(f"model.method is full, lora, qlora or lora-8bit, and the run's says {method!r}.")
    check_names(expected, named)
    network.load_state_dict(named, strict=False)
    return network.requires_grad_(False).eval()


def _options(kind: type[Options], given: Options | Mapping[str, Any] | None) -> Options:
    if isinstance(given, kind):
        return given
    values: dict[str, Any] = dict(given or {})  # type: ignore[arg-type]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    made: Options = kind(**values)
    return made
