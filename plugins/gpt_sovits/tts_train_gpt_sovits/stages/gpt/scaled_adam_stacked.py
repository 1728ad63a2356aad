"""The two moves of ScaledAdam over whole stacks, for GPUs: few kernels, and no number that the host must know.

On a CPU each parameter is moved by itself, which keeps it in the cache; the results agree within rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SIZE_PERIOD = 4
"""Steps after which what the loss asked of the sizes becomes one step of theirs."""


def resize_stack(
    members: list[Tensor], gradients: Tensor, state: dict[str, Any], factor: float | Tensor, group: dict[str, Any]
) -> None:
    """Decay the step and remember how the loss asks for other sizes; every few steps turn that into one.

    Args:
        members: The n parameters of a stack, all of one shape.
        gradients: Their gradients (n, ...).
        state: The stack's state.
        factor: What the gradients are multiplied by here, for clipping.
        group: The optimiser's settings.
    """
    beta1, step = group["betas"][0], state["step"]
    state["delta"].mul_(beta1)
    stacked = torch.stack(members)
    pulls = (stacked * gradients).flatten(1).sum(1)
    state["scale_grads"][step % SIZE_PERIOD] = (pulls * factor).view_as(state["param_rms"])
    if step % SIZE_PERIOD == SIZE_PERIOD - 1:
        sizes = stacked.flatten(1).norm(dim=1) / members[0].numel() ** 0.5
        state["param_rms"].copy_(sizes.view_as(state["param_rms"]))
        state["delta"].addcmul_(stacked, size_shares(state, group))


def size_shares(state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Update the running squares of the sizes' gradients and return the share of each member to add to its step."""
    beta1, beta2 = group["betas"]
    step, decay = state["step"], beta2**SIZE_PERIOD
    running = state["scale_exp_avg_sq"]
    running.mul_(decay).add_(state["scale_grads"].square().mean(0), alpha=1 - decay)
    correction = 1 - decay ** ((step + 1) // SIZE_PERIOD)
    rate = group["lr"] * group["scalar_lr_scale"]
    move = -rate * correction**0.5 * state["scale_grads"].sum(0) / (running.sqrt() + group["eps"])
    move = move.masked_fill(state["param_rms"] < group["param_min_rms"], 0.0)
    move = move.masked_fill(state["param_rms"] > group["param_max_rms"], -rate * SIZE_PERIOD)
    shares: Tensor = move * (1 - beta1)
    return shares


def move_stack(
    members: list[Tensor], gradients: Tensor, state: dict[str, Any], correction: float | None, group: dict[str, Any]
) -> None:
    """Add the main step to delta, and delta to the parameters; ``gradients`` (n, ...) are overwritten.

    Args:
        members: The n parameters.
        gradients: Their gradients, already clipped.
        state: The stack's state.
        correction: What the running squares are divided by, for their start; None where it no longer counts.
        group: The optimiser's settings.
    """
    beta1, beta2 = group["betas"]
    squares = state["exp_avg_sq"].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    roots = squares.sqrt()
    if correction is not None:
        roots.div_(correction**0.5)
    scales = state["param_rms"].clamp(min=group["param_min_rms"]) * (-group["lr"] * (1 - beta1))
    state["delta"].addcmul_(gradients.div_(roots.add_(group["eps"])), scales)
    torch._foreach_add_(members, list(state["delta"].unbind()))
