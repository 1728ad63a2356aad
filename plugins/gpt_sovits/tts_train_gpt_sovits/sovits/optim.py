"""The generator's parameters in the groups that the released optimiser states have."""

from __future__ import annotations

from typing import Any

from torch import nn

TEXT_PARTS = ("content_encoder.text_embedding.", "content_encoder.text_encoder.", "content_encoder.fusion.")
"""What learns at the text rate, in the order of the groups."""


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


def _group(name: str) -> int:
    return next((i for i, part in enumerate(TEXT_PARTS, 1) if name.startswith(part)), 0)
