"""Optimisers and learning-rate schedules as options that every backend offers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tts_train.errors import ConfigError

OptimizerName: TypeAlias = Literal["adamw", "adamw8bit", "paged_adamw8bit", "adafactor", "lion8bit"]
ScheduleName: TypeAlias = Literal["cosine", "linear", "constant"]

_BITS = {"adamw8bit": "AdamW8bit", "paged_adamw8bit": "PagedAdamW8bit", "lion8bit": "Lion8bit"}


@dataclass(frozen=True)
class OptimizerOptions:
    """The optimiser and its numbers."""

    name: OptimizerName = "adamw"
    """``adamw`` (fused, 8 bytes of state a parameter in float32); ``adamw8bit`` (2 bytes), ``paged_adamw8bit`` (its
    state moves to host memory when the device is full) and ``lion8bit`` (1 byte) from bitsandbytes; ``adafactor``
    (hardly any state)."""
    lr: float = 2e-4
    """Learning rate after warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean and of the running square; adafactor has none."""
    eps: float = 1e-8
    """Added to the root of the running square; lion8bit and adafactor have their own."""
    weight_decay: float = 0.0
    """Decoupled weight decay a step, as a factor on lr."""
    decay: Literal["matrices", "all"] = "matrices"
    """What decays: ``matrices`` leaves out norms and biases, where 0 is no neutral value, and embeddings, whose rare
    rows would shrink between their uses; ``all`` leaves out nothing."""

    def __post_init__(self) -> None:
        _refuse_unless(self.name in get_args(OptimizerName), "name", self.name, ", ".join(get_args(OptimizerName)))
        _refuse_unless(self.lr > 0 and math.isfinite(self.lr), "lr", self.lr, "above 0")
        betas = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _refuse_unless(betas, "betas", self.betas, "two numbers from 0 to below 1")
        _refuse_unless(self.eps > 0, "eps", self.eps, "above 0")
        _refuse_unless(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _refuse_unless(self.decay in ("matrices", "all"), "decay", self.decay, "matrices or all")


@dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate moves: a function of the step alone, so that a resumed run is on the same curve."""

    name: ScheduleName = "cosine"
    """Shape after warm-up: ``cosine`` or ``linear`` down to ``final_share`` at the last step, or ``constant``."""
    warmup_steps: int = 0
    """Steps over which the rate rises evenly from 0 to lr; give this or ``warmup_share``."""
    warmup_share: float = 0.0
    """The same as a share (0 to below 1) of the run's steps."""
    final_share: float = 0.0
    """Rate at the last step as a share (0 to 1) of lr."""

    def __post_init__(self) -> None:
        _refuse_unless(self.name in get_args(ScheduleName), "name", self.name, ", ".join(get_args(ScheduleName)), _S)
        _refuse_unless(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more", _S)
        _refuse_unless(0 <= self.warmup_share < 1, "warmup_share", self.warmup_share, "from 0 to below 1", _S)
        _refuse_unless(0 <= self.final_share <= 1, "final_share", self.final_share, "from 0 to 1", _S)
        if self.warmup_steps and self.warmup_share:
            raise ConfigError("Give --model.schedule.warmup_steps or --model.schedule.warmup_share, not both.")


_S = "--model.schedule"


def build_optimizer(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Build the optimiser of ``module``'s trainable parameters, each in one group: decayed or not.

    Raises:
        ConfigError: if nothing is trainable, or the optimiser cannot run here or on sharded parameters.
    """
    groups = parameter_groups(module, options)
    if not groups:
        raise ConfigError("Nothing is trainable: every parameter is frozen, so there is nothing to optimise.")
    if options.name in _BITS:
        return _eight_bit(groups, options)
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


def build_schedule(optimizer: Optimizer, options: ScheduleOptions, total_steps: float) -> LambdaLR:
    """Build the schedule to be stepped once an optimiser step.

    Args:
        optimizer: Its groups' ``lr`` is the rate after warm-up.
        options: The curve.
        total_steps: Optimiser steps of the whole run; may be infinite for ``constant`` without ``warmup_share``.

    Raises:
        ConfigError: if the curve needs the run's end and the run has none.
    """
    return LambdaLR(optimizer, learning_rate_factor(options, total_steps))


def learning_rate_factor(options: ScheduleOptions, total_steps: float) -> Callable[[int], float]:
    """Return the factor on lr as a function of the step, 0 for the first."""
    endless = not math.isfinite(total_steps)
    if endless and (options.name != "constant" or options.warmup_share):
        raise ConfigError(
            f"The {options.name} schedule needs to know where the run ends: give --trainer.max_steps or "
            "--trainer.max_epochs, or use --model.schedule.name constant with warmup_steps."
        )
    warmup = options.warmup_steps or round(options.warmup_share * (0 if endless else total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            # The first step already moves: it would be lost at a rate of 0.
            return (step + 1) / (warmup + 1)
        if options.name == "constant":
            return 1.0
        progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        shape = 1 - progress if options.name == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return options.final_share + (1 - options.final_share) * shape

    return factor


def _eight_bit(groups: list[dict[str, Any]], options: OptimizerOptions) -> Optimizer:
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"]):
        raise ConfigError(
            f"--model.optimizer.name {options.name} cannot step parameters that are sharded over processes; "
            "use adamw or adafactor, or a strategy that does not shard."
        )
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"--model.optimizer.name {options.name} needs bitsandbytes, which cannot be imported here ({error}). "
            "Install it with: pip install bitsandbytes; or use adamw or adafactor."
        ) from error
    numbers: dict[str, Any] = {"lr": options.lr, "betas": options.betas}
    if options.name != "lion8bit":
        numbers["eps"] = options.eps
    optimizer: Optimizer = getattr(bitsandbytes.optim, _BITS[options.name])(groups, **numbers)
    return optimizer


def _refuse_unless(good: bool, field: str, given: object, allowed: str, prefix: str = "--model.optimizer") -> None:
    if not good:
        raise ConfigError(f"{prefix}.{field} must be {allowed}, and {given!r} was given.")
