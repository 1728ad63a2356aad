"""Low-rank adapters over frozen networks (arXiv 2106.09685): put in, switched off for a while, and merged.

Those of the GPT carry our names; those of the flow-matching estimator are named as in upstream's LoRA files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from tts_train.contract import ConfigError
from tts_train.nn import drawn_on_cpu
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.released.gpt_names import to_upstream
from tts_train_gpt_sovits.released.sovits_names import LORA_TARGETS

Method: TypeAlias = Literal["full", "lora"]
"""``full`` trains every weight, ``lora`` adapters over the frozen base."""

TARGETS = ("qkv", "out", "up", "down")
"""The four matrices of a layer: into and out of attention, and up and down in the feed-forward network."""

_ADAPTER = "default"
# All processes must start from the same adapters, and the run's own random stream is left alone.
_GPT_SEED, _ESTIMATOR_SEED = 0x0A0B, 0x50A1


@dataclass(frozen=True)
class GptLoraOptions:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = 32
    """Rank of each adapter."""
    alpha: float = 32.0
    """Scale: an adapter's output is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapters' input, 0 to below 1."""
    targets: tuple[str, ...] = TARGETS
    """Matrices of a layer that get an adapter: some of ``qkv``, ``out``, ``up`` and ``down``."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "--model.lora.rank must be 1 or more, --model.lora.alpha above 0 and --model.lora.dropout in [0, 1); "
                f"{self.rank}, {self.alpha} and {self.dropout} were given."
            )
        if not self.targets or set(self.targets) - set(TARGETS):
            raise ConfigError(f"--model.lora.targets are some of {', '.join(TARGETS)}, not {list(self.targets)}.")


def adapt_gpt(network: GptNetwork, lora: GptLoraOptions) -> None:
    """Freeze a network and put adapters in, in place; they start as nothing."""
    from peft import LoraConfig, inject_adapter_in_model

    # Before adapters are put in, which are trainable as they are made.
    network.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(lora.targets),
        bias="none",
    )
    with drawn_on_cpu(_GPT_SEED, like=network.head.weight):
        inject_adapter_in_model(config, network, adapter_name=_ADAPTER)


def adapt_estimator(network: FlowSovitsNetwork, rank: int) -> None:
    """Put adapters of a rank on the attention of the estimator, and freeze the rest of it, in place.

    The style encoder, bridge, refinement and mel projection stay trainable whole, as upstream trains them. Scale is 1.
    """
    from peft import LoraConfig, get_peft_model

    # Alpha is the rank, so the scale is 1: a file names its rank alone, and upstream's inference takes alpha to be the
    # same (TTS_infer_pack/TTS.py).
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_TARGETS, init_lora_weights=True)
    with drawn_on_cpu(_ESTIMATOR_SEED, like=network.bridge.weight):
        adapted = get_peft_model(network.matching, config)
    network.matching = adapted


@contextmanager
def adapters_off(network: GptNetwork) -> Iterator[None]:
    """Let a network be its frozen base for a while; nothing that needs a gradient may be computed meanwhile."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def trained_names(network: nn.Module) -> list[str]:
    """Return the names of all entries of a network's state dict but frozen parameters, as LoRA files hold them."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    # Buffers too, as upstream's files have them.
    return [name for name in network.state_dict() if name not in frozen]


def merge_estimator(network: FlowSovitsNetwork) -> None:
    """Add the adapters to the matrices they sit on and take them out, in place."""
    matching: nn.Module = network.matching.merge_and_unload()  # type: ignore[operator]
    network.matching = matching  # type: ignore[assignment]
    network.matching.requires_grad_(True)


def merged_state(network: GptNetwork) -> dict[str, Tensor]:
    """Return a network's tensors under upstream's names, as ``files.write_s1`` takes them; adapters are added in.

    The network is left as it is.
    """
    state = network.state_dict()
    plain = {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
    return to_upstream({name: value + _added(network, name, value) for name, value in plain.items()})


def _added(network: GptNetwork, name: str, base: Tensor) -> Tensor | int:
    """Return what an adapter adds to one of the plain tensors."""
    from peft.tuners.lora import LoraLayer

    owner, _, leaf = name.rpartition(".")
    module = network.get_submodule(owner)
    if leaf != "weight" or not isinstance(module, LoraLayer):
        return 0
    # The product of two small matrices is rounded once, and not before.
    wide = torch.promote_types(base.dtype, torch.float32)
    a, b = (matrices[_ADAPTER].weight.detach().to(wide) for matrices in (module.lora_A, module.lora_B))
    delta: Tensor = b @ a * module.scaling[_ADAPTER]
    return delta.to(base.dtype)
