"""A network from what a run of ours kept: to speak, to export, or to be the base of the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, merge, trainable_parameters
from tts_train.families.token_lm.network.build import build_network
from tts_train.families.token_lm.network.start import (
    ATTENTION,
    TINY,
    TinyOptions,
    base_config,
    config_of,
    empty_network,
    load_base,
    use_attention,
)
from tts_train.run.checkpoint import Checkpoint, check_names, check_sizes, is_run, open_checkpoint

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork

PREFIX = "network."
"""What stands before the network's names in a module's ``state_dict``."""

Options = TypeVar("Options", LoraOptions, TinyOptions)


def open_own(token_lm: TokenLM, path: Path) -> Checkpoint:
    """Open a run directory or a checkpoint of this model.

    Raises:
        DataError: if there is none, it is damaged, or it belongs to another backend.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint.card.backend != token_lm.backend:
        raise DataError(f"{path} is a run of backend {checkpoint.card.backend!r}, and this is {token_lm.name}.")
    return checkpoint


def initial_config(token_lm: TokenLM, init_from: str, tiny: TinyOptions = TinyOptions()) -> PretrainedConfig:
    """Return the configuration of what ``--model.init_from`` names, a run of ours included, without weights."""
    path = Path(init_from).expanduser()
    if not is_run(path):
        return base_config(token_lm, init_from, tiny)
    return config_of(token_lm, described(token_lm, open_own(token_lm, path)), init_from)


def load_initial(
    token_lm: TokenLM, init_from: str, *, dtype: torch.dtype = torch.float32, tiny: TinyOptions = TinyOptions()
) -> PreTrainedModel:
    """Load what ``--model.init_from`` names, a run of ours included: its adapters become part of the base."""
    path = Path(init_from).expanduser()
    if not is_run(path):
        return load_base(token_lm, init_from, dtype=dtype, tiny=tiny)
    checkpoint = open_own(token_lm, path)
    model = checkpoint.card.options("model", "init_from", names=(TINY,))
    description = described(token_lm, checkpoint)
    network = load_trained(token_lm, model, checkpoint.weights(), description=description, dtype=dtype)
    if model.get("method", "full") != "full":
        merge(network)
    # What is restored attends as exports do, and is trained on here.
    use_attention(network.lm, ATTENTION)
    lm: PreTrainedModel = network.requires_grad_(True).train().lm
    return lm


def described(token_lm: TokenLM, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the network's configuration that a checkpoint holds."""
    return dict(checkpoint.state(token_lm.description_key)[token_lm.description_key])


def load_trained(
    token_lm: TokenLM,
    model_config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    description: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> TokenNetwork:
    """Rebuild a trained network on the CPU, frozen and in evaluation mode.

    Adapters come back on an unquantised base, also those trained over 4 or 8 bits, so that ``adapters.merge`` rounds
    once; they are not merged yet.

    Args:
        token_lm: The model.
        model_config: The ``model`` section of the run's config.yaml (``init_from``, ``method``, ``lora``, ``tiny``).
        weights: The checkpoint's ``state_dict``.
        description: What :func:`described` returns; without it the base's own configuration is read, which for a
            hub name needs the hub's files.
        dtype: Type of the result; adapters are float32 or wider.

    Raises:
        ConfigError: if the weights do not fit the arguments, or the base cannot be loaded.
    """
    config = {"init_from": token_lm.base, "method": "full", **model_config.get("init_args", model_config)}
    tiny, method = _options(TinyOptions, config.get("tiny")), config["method"]
    named = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    if method == "full":
        source = config["init_from"]
        built = config_of(token_lm, description, source) if description else initial_config(token_lm, source, tiny)
        lm = empty_network(built, dtype=dtype, network_class=token_lm.network_class)
        network = build_network(lm, token_lm.layout)
        expected = set(network.state_dict()) - network.tied_names
        # Checkpoints of before hold a tied weight under both names.
        named = {name: value for name, value in named.items() if name not in network.tied_names}
    elif method in ("lora", "qlora", "lora-8bit"):
        network = build_network(load_initial(token_lm, config["init_from"], dtype=dtype, tiny=tiny), token_lm.layout)
        # Whatever the base was quantised to: the adapters' sizes are the same, and merging then rounds once.
        apply_method(network, "lora", _options(LoraOptions, config.get("lora")))
        _take_over(token_lm, network, description or {}, named)
        expected = set(trainable_parameters(network)) | network.kept_buffers
    else:
        raise ConfigError(f"model.method is full, lora, qlora or lora-8bit, and the run's says {method!r}.")
    check_names(expected, named)
    check_sizes(network.state_dict(), named)
    # Names were compared above; of adapters only what was trained is there.
    network.load_state_dict(named, strict=False)
    return network.requires_grad_(False).eval()


def _take_over(
    token_lm: TokenLM, network: TokenNetwork, description: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> None:
    """Give a base what a run decided besides its adapters: entries of the configuration, and the sizes of buffers."""
    for entry in token_lm.kept_entries:
        if entry in description:
            setattr(network.config, entry, description[entry])
    for name in network.kept_buffers & set(weights):
        owner, _, last = name.rpartition(".")
        buffer = network.get_buffer(name)
        setattr(network.get_submodule(owner), last, buffer.new_empty(weights[name].shape))


def _options(kind: type[Options], given: Options | Mapping[str, Any] | None) -> Options:
    if isinstance(given, kind):
        return given
    values: dict[str, Any] = dict(given or {})  # type: ignore[arg-type]
    # YAML has lists where the options have tuples.
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    made: Options = kind(**values)
    return made
