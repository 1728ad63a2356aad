"""The optimisers of the stage: the groups that the released states have, and the schedule over epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

TEXT_PARTS = ("content_encoder.text_embedding.", "content_encoder.text_encoder.", "content_encoder.fusion.")
"""What learns at the text rate, in the order of the groups."""
BETAS, EPSILON, WEIGHT_DECAY = (0.8, 0.99), 1e-9, 0.01


def parameter_groups(network: nn.Module, *, lr: float, text_lr_factor: float = 0.4) -> list[dict[str, Any]]:
    """Return the groups for AdamW: everything else at ``lr``, then each text part at ``lr * text_lr_factor``.

    Frozen parameters are left out. The order of groups and parameters is that of the released training files.
    """
    groups: list[dict[str, Any]] = [{"params": [], "lr": lr}]
    groups += [{"params": [], "lr": lr * text_lr_factor} for _ in TEXT_PARTS]
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[_group(name)]["params"].append(parameter)
    return groups


def adamw(parameters: Iterable[nn.Parameter] | list[dict[str, Any]], *, lr: float) -> torch.optim.AdamW:
    """Return upstream's AdamW in torch's fused form; group rates come before ``lr``."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True)
    # The fused step could undo a loss scale itself; told otherwise, the scaler does it before gradients are looked at.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def by_epoch(optimizer: torch.optim.Optimizer, *, decay: float, steps_per_epoch: int, done: int = 0) -> LambdaLR:
    """Return the schedule that multiplies each rate by ``decay`` once for every epoch begun, the first included.

    It is a function of the step alone, stepped once a batch, so that a continued run is on the same curve.

    Args:
        optimizer: What it sets the rates of.
        decay: Factor of an epoch.
        steps_per_epoch: Batches of an epoch.
        done: Epochs that are counted as done before the first step.
    """
    return LambdaLR(optimizer, lambda step: decay ** (1 + done + step // steps_per_epoch))


def _group(name: str) -> int:
    return next((i for i, part in enumerate(TEXT_PARTS, 1) if name.startswith(part)), 0)
