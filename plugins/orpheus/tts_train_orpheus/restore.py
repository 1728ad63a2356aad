"""A trained network from a run's model arguments and a checkpoint's weights, for synthesis and export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LlamaConfig

from tts_train.errors import ConfigError
from tts_train_orpheus.adapters import LoraOptions, apply_method, trainable_parameters
from tts_train_orpheus.module import check_names
from tts_train_orpheus.network import OrpheusNetwork, TinyOptions, base_config, empty_network, load_base

_PREFIX = "network."
_TIED_HEAD = "lm.lm_head.weight"
_DEFAULTS: Mapping[str, Any] = {"init_from": "canopylabs/orpheus-3b-0.1-pretrained", "method": "full"}

Options = TypeVar("Options", LoraOptions, TinyOptions)


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
    named = {name.removeprefix(_PREFIX): value for name, value in weights.items()}
    if method == "full":
        llama = LlamaConfig.from_dict(dict(description)) if description else base_config(config["init_from"], tiny)
        network = OrpheusNetwork(empty_network(llama, dtype=dtype))
        expected = set(network.state_dict()) - ({_TIED_HEAD} if network.tied else set())
        named = {name: value for name, value in named.items() if name in expected or name != _TIED_HEAD}
    elif method in ("lora", "qlora", "lora-8bit"):
        network = OrpheusNetwork(load_base(config["init_from"], dtype=dtype, tiny=tiny))
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
