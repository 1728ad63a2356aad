"""From options to an optimiser: parameter groups, and what refuses to go together."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tts_train.errors import ConfigError
from tts_train.optim.options import STREAMABLE, OptimizerOptions
from tts_train.optim.paged import paged_adamw8bit
from tts_train.optim.refusals import refuse_for_parameters, refuse_for_trainer
from tts_train.optim.streamed.optimizer import StreamedOptimizer
from tts_train.optim.streamed.rules import AdamWRule, EightBitRule


def build_optimizer(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Build the optimiser of ``module``'s trainable parameters, each in one group: decayed or not.

    An 8-bit optimiser steps one parameter after the other, of sharded ones this process's own shard.

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
        return torch.optim.Adafactor(groups, lr=options.lr, weight_decay=0.0)
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, eps=options.eps, fused=True)
    # The fused step can undo a loss scale itself, and Lightning then refuses to clip gradients, even in bf16 where
    # there is no scale. Told otherwise, the scaler undoes it before clipping.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def parameter_groups(module: nn.Module, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Return the trainable parameters in at most two groups, those that decay first; a shared one counts once."""
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
