"""From options to an optimiser: parameter groups, and which ways to save memory cannot go together.

Each is refused by name before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tts_train.errors import ConfigError
from tts_train.optim.options import STREAMABLE, OptimizerOptions
from tts_train.optim.paged import paged_adamw8bit
from tts_train.optim.streamed.optimizer import StreamedOptimizer
from tts_train.optim.streamed.rules import AdamWRule, EightBitRule

_IN_BACKWARD = "--model.optimizer.in_backward true"


def refuse_for_parameters(parameters: Sequence[nn.Parameter], options: OptimizerOptions) -> None:
    """Refuse options that these parameters cannot have.

    Raises:
        ConfigError: naming the option and what to give instead.
    """
    types = {parameter.dtype for parameter in parameters}
    if options.rounding != "nearest" and torch.bfloat16 not in types:
        raise ConfigError(
            f"--model.optimizer.rounding {options.rounding} is for bfloat16 weights, and these are "
            f"{', '.join(sorted(str(kind)[6:] for kind in types))}: leave it out, or use --trainer.precision bf16-true."
        )
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    if sharded and options.offload:
        raise ConfigError(
            "--model.optimizer.offload true cannot be used with parameters that are sharded over processes. Leave it "
            "out, or let the sharding strategy offload."
        )
    if options.name != "adamw" or options.streamed:
        for parameter in sharded:
            if sum(place.is_shard() for place in parameter.placements) > 1:
                raise ConfigError(
                    f"--model.optimizer.name {options.name} cannot step parameters that are sharded in two ways at "
                    "once; use --model.optimizer.name adamw without in_backward and rounding."
                )


def refuse_for_trainer(module: nn.Module, options: OptimizerOptions, *, sharded: bool) -> None:
    """Refuse a step inside backward where the trainer needs all gradients at once.

    Raises:
        ConfigError: naming the trainer's setting and what to give instead.
    """
    # Lightning's property raises where a module has no trainer, as in a plan or a test.
    trainer: Any = getattr(module, "_trainer", None)
    if trainer is None or not options.in_backward:
        return
    if not getattr(module, "automatic_optimization", True):
        raise ConfigError(f"{_IN_BACKWARD} cannot be used here: this stage steps its optimisers by itself.")
    if trainer.accumulate_grad_batches != 1:
        raise ConfigError(
            f"{_IN_BACKWARD} uses every batch's gradients at once, so --trainer.accumulate_grad_batches must be 1, "
            f"and {trainer.accumulate_grad_batches} was given. Raise --data.max_tokens instead, or lower lr."
        )
    # The scale is taken off all gradients at once before the step, which is too late here.
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ConfigError(
            f"{_IN_BACKWARD} cannot undo the loss scale of --trainer.precision 16-mixed; use bf16-true or bf16-mixed."
        )
    if trainer.world_size > 1 and not sharded:
        raise ConfigError(
            f"{_IN_BACKWARD} would step before the processes' gradients are averaged. Shard with --trainer.strategy "
            "fsdp, or leave it out."
        )
    if sharded and _on_host(module) and trainer.strategy.root_device.type != "cpu":
        raise ConfigError(
            f"{_IN_BACKWARD} cannot be used with sharded parameters in host memory; turn off the strategy's CPU "
            "offload, or leave it out."
        )
    if trainer.gradient_clip_val:
        raise ConfigError(
            f"{_IN_BACKWARD} never has all gradients, which --trainer.gradient_clip_val needs: leave that out, or clip "
            "each gradient by value with --model.optimizer.clip_value."
        )


def _on_host(module: nn.Module) -> bool:
    return any(parameter.device.type == "cpu" for parameter in module.parameters())


def build_optimizer(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Build the optimiser of ``module``'s trainable parameters, each in one group: decayed or not.

    An 8-bit optimiser steps one parameter after the other, of sharded ones this process's own part.

    Raises:
        ConfigError: if nothing is trainable, or the optimiser cannot run here, on these parameters, or with the
            settings of the trainer that ``module`` is attached to.
    """
    groups = parameter_groups(module, options)
    if not groups:
        raise ConfigError("Nothing is trainable: every parameter is frozen, so there is nothing to optimise.")
    parameters = [parameter for group in groups for parameter in group["params"]]
    refuse_for_parameters(parameters, options)
    if options.streamed or options.name in ("adamw8bit", "lion8bit"):
        return _streamed(module, groups, options)
    if options.name == "paged_adamw8bit":
        return _paged(groups, options)
    if options.name == "adafactor":
        # The groups bring their own decay; this is only its default.
        return torch.optim.Adafactor(groups, lr=options.lr, weight_decay=0.0)
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, eps=options.eps, fused=True)
    # The fused step can undo a loss scale itself, and Lightning then refuses to clip gradients, even in bf16 where
    # there is no scale. Told otherwise, the scaler undoes it before clipping.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def parameter_groups(module: nn.Module, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Return the trainable parameters in at most two groups, those that decay first; a shared one counts once."""
    # Decay pulls rare tokens' rows to zero, which get no gradient for most steps.
    embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim > 1 and id(parameter) not in embeddings
            (decayed if is_matrix or options.decay == "all" else plain).append(parameter)
    groups = ((decayed, options.weight_decay), (plain, 0.0))
    return [{"params": members, "weight_decay": decay} for members, decay in groups if members]


def _streamed(module: nn.Module, groups: list[dict[str, Any]], options: OptimizerOptions) -> StreamedOptimizer:
    refuse_for_trainer(module, options, sharded=isinstance(groups[0]["params"][0], DTensor))
    return StreamedOptimizer(groups, AdamWRule() if options.name == "adamw" else EightBitRule(options.name), options)


def _paged(groups: list[dict[str, Any]], options: OptimizerOptions) -> Optimizer:
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"]):
        raise ConfigError(
            "--model.optimizer.name paged_adamw8bit cannot step parameters that are sharded over processes; "
            f"use one of {', '.join(STREAMABLE)}."
        )
    return paged_adamw8bit(groups, options)
