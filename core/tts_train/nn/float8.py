"""Linear layers that multiply in 8-bit floats, through torchao; weights and their names stay as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import nn

from tts_train.errors import ConfigError
from tts_train.nn.devices import planned_device, runs_on

Recipe: TypeAlias = Literal["off", "tensorwise", "rowwise", "rowwise_with_gw_hp"]

# Compute capability of the cards whose kernels there are: Ada for one scale a tensor, Hopper for one a row.
_NEEDED: dict[Recipe, tuple[int, int]] = {"tensorwise": (8, 9), "rowwise": (9, 0), "rowwise_with_gw_hp": (9, 0)}
_PRECISIONS = ("bf16-mixed", "bf16-true")
# Sizes of a matrix that the kernels take.
# torch._scaled_mm checks it.
_MULTIPLE = 16
# Compiled versions of a layer's code: one for each shape of matrix, with and without gradients. torch stops at 8.
_SHAPES = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Float8Options:
    """Products of linear layers in 8-bit floats (Micikevicius et al. 2022, arXiv 2209.05433)."""

    recipe: Recipe = "off"
    """How numbers are scaled into 8 bits, by torchao's names: ``tensorwise`` one scale for a matrix, the fastest;
    ``rowwise`` one for a row; ``rowwise_with_gw_hp`` that, with the weights' gradients in bfloat16, the most exact."""
    compile: bool = False
    """Compile the layers, so that scaling is one kernel with rounding. Without it scaling costs about what the products
    save; with it the first steps take minutes."""

    def __post_init__(self) -> None:
        if self.recipe not in get_args(Recipe):
            raise ConfigError(f"--model.float8.recipe is one of {', '.join(get_args(Recipe))}, not {self.recipe!r}.")


def use_float8(network: nn.Module, options: Float8Options, *, device: torch.device, precision: str) -> int:
    """Replace the linear layers below ``network`` whose sizes 8-bit kernels take, in place.

    Each product's operands are scaled and rounded to 8 bits as they come, and it is summed in float32; weights,
    gradients and the optimiser keep their types, and so do checkpoints. Leave out what must stay exact by passing only
    the blocks.

    Args:
        network: on any device, or on ``meta``.
        options: the recipe; ``off`` changes nothing.
        device: where it will run; a CPU emulates, slowly.
        precision: the trainer's.

    Returns:
        How many layers were replaced.

    Raises:
        ConfigError: if the machine, the precision or the network cannot do it, with what can.
    """
    if options.recipe == "off":
        return 0
    on = runs_on(device)
    _check(options.recipe, device, precision)
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise ConfigError(
            f"--model.float8.recipe {options.recipe} needs torchao, which cannot be imported here ({error}). "
            "Install it with: pip install 'tts-train[fp8]'"
        ) from error
    # The number of tokens of a batch is rarely a multiple of 16, which the weights' gradients would need.
    config = replace(
        Float8LinearConfig.from_recipe_name(options.recipe), pad_inner_dim=on != "cpu", emulate=on == "cpu"
    )
    # Exactly nn.Linear: a subclass, such as an adapter's layer, computes something else in its forward.
    chosen = {name for name, module in network.named_modules() if type(module) is nn.Linear and _fits(module)}
    if not chosen:
        raise ConfigError(
            f"--model.float8.recipe {options.recipe}: no linear layer has sizes that are multiples of {_MULTIPLE}, "
            "which 8-bit kernels need. Leave it out."
        )
    convert_to_float8_training(network, module_filter_fn=lambda _, name: name in chosen, config=config)
    if options.compile and planned_device() is None:  # shapes need no kernels
        _compile(network.get_submodule(name) for name in sorted(chosen))
    hint = "" if options.compile else " Scaling is not fused: for speed give --model.float8.compile true."
    hint = " A CPU emulates them, which is slow and only for trying out." if on == "cpu" else hint
    logger.info("%d linear layers multiply in 8-bit floats (%s).%s", len(chosen), options.recipe, hint)
    return len(chosen)


def _compile(layers: Iterable[nn.Module]) -> None:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    for layer in layers:
        # Batches differ in their number of tokens; static shapes would compile for each.
        layer.compile(dynamic=True)


def _check(recipe: Recipe, device: torch.device, precision: str) -> None:
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"--model.float8.recipe {recipe} goes with --trainer.precision {' or '.join(_PRECISIONS)}, and "
            f"{precision} was given."
        )
    if planned_device() is not None or device.type == "cpu":  # a plan may be for another card than this machine's
        return
    if device.type != "cuda":
        raise ConfigError(f"--model.float8.recipe {recipe} has no kernels on {device.type}. Leave it out.")
    capability, needed = torch.cuda.get_device_capability(device), _NEEDED[recipe]
    if capability < needed:
        # An Ada card can still do the coarser recipe.
        able = [name for name, least in _NEEDED.items() if capability >= least]
        raise ConfigError(
            f"--model.float8.recipe {recipe} needs a card of compute capability {needed[0]}.{needed[1]} or newer, and "
            f"{torch.cuda.get_device_name(device)} has {capability[0]}.{capability[1]}. "
            + (f"It can do: {', '.join(able)}." if able else "Leave it out; --trainer.precision is enough.")
        )


def _fits(linear: nn.Linear) -> bool:
    return linear.in_features % _MULTIPLE == 0 and linear.out_features % _MULTIPLE == 0
