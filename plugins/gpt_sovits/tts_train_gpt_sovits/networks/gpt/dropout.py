"""Dropout that costs little on a CPU, where torch draws one number after another: four elements a draw."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.nn import runs_on

_STEPS = 65_536


def dropout(states: Tensor, share: float, *, training: bool = True) -> Tensor:
    """Set a share of the elements to 0 and scale the others so that the expectation stays.

    On a CPU the share is a multiple of 1/65536, the nearest to the one given, and the scale is that of the share drawn.
    """
    if not training or share <= 0:
        return states
    if runs_on(states.device) != "cpu" or share >= 1:
        return F.dropout(states, share)
    return states * gates(states, share)


def relu_dropout(states: Tensor, share: float, *, training: bool = True) -> Tensor:
    """Return ``dropout`` of the positive part; on a CPU in one product, which keeps one tensor for backward."""
    if not training or share <= 0 or runs_on(states.device) != "cpu" or share >= 1:
        return dropout(F.relu(states), share, training=training)
    return states * gates(states, share, positive=True)


def gates(states: Tensor, share: float, *, positive: bool = False) -> Tensor:
    """Draw what ``dropout`` multiplies a CPU's states by: 0 for a share of them, for the others what makes up for it.

    Args:
        states: Only shape and type count.
        share: Share to drop, below 1.
        positive: Also drop what is not above 0.
    """
    dropped = round(share * _STEPS)
    count = states.numel()
    # 64 random bits are four numbers of 16.
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    # Whole numbers, so that what lies between 0 and 1 is none; a comparison would take several times as long.
    drawn = draws[:count].view(states.shape).to(torch.promote_types(states.dtype, torch.float32))
    kept = drawn.sub_(dropped - _STEPS // 2 - 1).clamp_(0, 1)
    if positive:
        kept.mul_(states.detach().to(kept.dtype, copy=True).gt_(0))
    return kept.mul_(_STEPS / max(_STEPS - dropped, 1)).to(states.dtype)
