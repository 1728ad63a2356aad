"""What of the network is trained: all of it, or low-rank adapters over a frozen base of 16, 8 or 4 bits."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.network import TokenNetwork
from tts_train.nn.reproducible import drawn_on_cpu

if TYPE_CHECKING:
    from peft import LoraConfig

logger = logging.getLogger(__name__)

Method: TypeAlias = Literal["full", "lora", "qlora", "lora-8bit"]
"""``full`` trains every weight, ``lora`` adapters over the base as loaded, ``qlora`` over an NF4 base (double
quantisation), ``lora-8bit`` over a base of 8 bits, a scale a row; products are in the base's type."""

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The seven matrices of a layer."""

_ADAPTER = "default"
_BITS_DEVICES = ("cpu", "cuda", "xpu")
# Of its own: adapters must not depend on how many random numbers a run has drawn before.
_SEED = 0x0A0B


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = 64
    """Rank of each adapter."""
    alpha: float = 64.0
    """Scale: an adapter's output is multiplied by alpha / rank, or alpha / sqrt(rank) with ``rslora``."""
    dropout: float = 0.0
    """Dropout on the adapters' input, 0 to below 1."""
    rslora: bool = False
    """Divide by the root of the rank (Kalajdzievski 2023, arXiv 2312.03732), for large ranks."""
    targets: tuple[str, ...] = PROJECTIONS
    """Matrices of a layer that get an adapter."""
    train_embedding: bool = False
    """Train the embedding in full besides the adapters. Where it is tied to the output matrix there is one copy, and
    ``train_head`` must be given the same value."""
    train_head: bool = False
    """Train the output matrix in full besides the adapters."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(
                f"--model.lora.rank must be 1 or more and --model.lora.alpha above 0, not {self.rank} and {self.alpha}."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--model.lora.dropout must be in [0, 1), and {self.dropout} was given.")
        unknown = sorted(set(self.targets) - set(PROJECTIONS))
        if unknown or not self.targets:
            raise ConfigError(f"--model.lora.targets are some of {', '.join(PROJECTIONS)}, not {list(self.targets)}.")


def apply_method(
    network: TokenNetwork, method: Method, lora: LoraOptions, *, device: torch.device | str | None = None
) -> None:
    """Set up ``network`` in place for ``method``: quantise, put adapters in, freeze.

    Args:
        network: A freshly loaded network, on the CPU or on ``meta``.
        method: What is trained.
        lora: The adapters, for every method but ``full``.
        device: Where quantisation runs and the quantised matrices stay; None leaves them where they are.

    Raises:
        ConfigError: if this machine cannot do it or the options contradict the network.
    """
    if method not in get_args(Method):
        raise ConfigError(f"--model.method is one of {', '.join(get_args(Method))}, and {method!r} was given.")
    if method == "full":
        return
    _check_tie(network, lora)
    if method != "lora":
        # Before adapters are put in: PEFT chooses their kind by the layer below.
        _quantise(network, method, torch.device(device or network.lm.lm_head.weight.device))
    network.requires_grad_(False)
    _inject(network.lm, lora)
    # After the adapters, since putting them in freezes everything else.
    network.lm.get_input_embeddings().requires_grad_(lora.train_embedding)
    network.lm.lm_head.weight.requires_grad_(lora.train_head)


def trainable_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that get a gradient, each once, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def adapter_weights(network: TokenNetwork) -> dict[str, Tensor]:
    """Return the adapters' matrices under the names of PEFT's adapter files."""
    # A file of PEFT holds one adapter, so the adapter's own name is left out of it.
    named = network.lm.named_parameters()
    return {
        f"base_model.model.{name.replace(f'.{_ADAPTER}', '')}": p.data.contiguous()
        for name, p in named
        if ".lora_" in name
    }


def adapted_modules(network: TokenNetwork, lora: LoraOptions) -> str | list[str]:
    """Return PEFT's ``target_modules`` for whoever loads an adapter on the released model.

    A released model of frames carries its codec, whose layers have projections of the same names: there the networks
    are named as well, by a pattern.
    """
    targets = sorted(lora.targets)
    if len(network.stacks) == 1:
        return targets
    # Without the rest of the names PEFT would put adapters into the codec, which were never trained.
    homes = [name for name, module in network.lm.named_modules() if any(module is stack for stack in network.stacks)]
    return rf"({'|'.join(map(re.escape, homes))})\..*\.({'|'.join(targets)})"


def merge(network: TokenNetwork) -> None:
    """Add the adapters to the matrices they sit on and take them out, in place.

    The product is made in float32 and rounded once. Do it on an unquantised base: merged into 4 or 8 bits an adapter
    drowns in the rounding.

    Raises:
        ConfigError: if the base is quantised.
    """
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.lm.named_modules()):
        if not isinstance(module, LoraLayer):
            continue
        base = module.get_base_layer()
        if type(base) is not nn.Linear:
            raise ConfigError(
                "Adapters cannot be merged into a quantised base: load the base unquantised, merge there."
            )
        a, b = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
        wide = torch.promote_types(base.weight.dtype, torch.float32)
        with torch.no_grad():
            delta = (b.to(wide) @ a.to(wide)) * module.scaling[_ADAPTER]
            base.weight.copy_(base.weight.to(wide) + delta)
        network.lm.set_submodule(name, base)
    # PEFT notes its adapters here and would warn of them when the next ones are put in.
    vars(network.lm).pop("peft_config", None)
    network.requires_grad_(True)


def lora_config(lora: LoraOptions) -> LoraConfig:
    """Return PEFT's description of the adapters; its ``to_dict`` is what an adapter file's config holds."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=sorted(lora.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _check_tie(network: TokenNetwork, lora: LoraOptions) -> None:
    if network.tied and lora.train_embedding != lora.train_head:
        raise ConfigError(
            "The base has its output matrix tied to the embedding, one copy of both: give "
            "--model.lora.train_embedding and --model.lora.train_head the same value, "
            f"not {lora.train_embedding} and {lora.train_head}."
        )


def _inject(lm: Any, lora: LoraOptions) -> None:  # noqa: ANN401 - a model of transformers
    from peft import inject_adapter_in_model

    on_meta = lm.lm_head.weight.device.type == "meta"
    # All ranks must start from the same adapters, and the run's own random stream is left alone.
    with drawn_on_cpu(_SEED):
        inject_adapter_in_model(lora_config(lora), lm, adapter_name=_ADAPTER, low_cpu_mem_usage=on_meta)
    for name, parameter in lm.named_parameters():
        if ".lora_" in name:
            # Adapters stay in float32 over a half-precision base, whose rounding would swallow small steps.
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
            parameter.requires_grad_(True)
    if not lora.dropout:  # with it, the values that are left would be scaled before rounding or after
        _cast_inputs_once(lm)


def _cast_inputs_once(lm: nn.Module) -> None:
    """Leave an adapter's input to autocast where that is on, instead of to float32 and back.

    PEFT casts the input to the type of the adapter's weights, which is float32, and autocast casts the copy to half
    precision again: two passes over memory for the numbers that were there before.
    """
    from peft.tuners.lora import LoraLayer

    for module in lm.modules():
        if isinstance(module, LoraLayer):
            module._cast_input_dtype = _cast_without_autocast


def _cast_without_autocast(states: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Take the place of a PEFT layer's ``_cast_input_dtype``."""
    return states if states is None or torch.is_autocast_enabled(states.device.type) else states.to(dtype)


def _quantise(network: TokenNetwork, method: Method, device: torch.device) -> None:
    """Replace the seven projections of every layer by quantised ones, one at a time."""
    bnb = _bitsandbytes(method, device)
    for layer in (layer for stack in network.stacks for layer in stack.layers):
        for name, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear):
                make = _four_bit if method == "qlora" else _eight_bit
                layer.set_submodule(name, make(bnb, module, device))
    # PEFT asks these two which kind of adapter to put on.
    network.lm.is_loaded_in_4bit, network.lm.is_loaded_in_8bit = method == "qlora", method == "lora-8bit"
    logger.info("Quantised the base for --model.method %s on %s.", method, device)


def _bitsandbytes(method: Method, device: torch.device) -> ModuleType:
    if device.type not in _BITS_DEVICES:
        raise ConfigError(
            f"--model.method {method} cannot run on {device.type}: bitsandbytes serves {', '.join(_BITS_DEVICES)}. "
            "Use --model.method lora."
        )
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"--model.method {method} needs bitsandbytes, which cannot be imported here ({error}). "
            "Install it with: pip install bitsandbytes; or use --model.method lora."
        ) from error
    module: ModuleType = bitsandbytes
    return module


def _four_bit(bnb: ModuleType, linear: nn.Linear, device: torch.device) -> nn.Module:
    # On meta: the real weight comes below, and a second copy of a large matrix might not fit.
    half = linear.weight.dtype
    new = bnb.nn.Linear4bit(
        linear.in_features, linear.out_features, bias=False, compute_dtype=half, quant_type="nf4", device="meta"
    )
    new.weight = bnb.nn.Params4bit(
        linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=new
    ).to(device)
    # In evaluation bitsandbytes may repack the weights in place for a CPU kernel, which training then cannot read.
    new.support_avx512bf16_for_cpu = False
    return _checked(new, linear)


def _eight_bit(bnb: ModuleType, linear: nn.Linear, device: torch.device) -> nn.Module:
    from tts_train.families.token_lm.decoding.int8 import Int8Linear

    new = Int8Linear(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False, device="meta")
    new.weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False).to(device)
    return _checked(new, linear)


def _checked(quantised: nn.Module, linear: nn.Linear) -> nn.Module:
    weight = quantised.get_parameter("weight")
    # Without its native library bitsandbytes leaves the matrix as it was and raises nothing.
    if weight.dtype not in (torch.uint8, torch.int8):
        raise ConfigError(
            f"bitsandbytes left a matrix as {weight.dtype} instead of quantising it; use --model.method lora."
        )
    # A Qwen2 has biases beside its queries, keys and values; they stay as they are.
    quantised.bias = None if linear.bias is None else nn.Parameter(linear.bias.to(weight.device), requires_grad=False)
    return quantised
