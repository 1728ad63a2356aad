"""Root-mean-square normalisation in one pass, with the residual addition before it.

Llama's order: normalised in float32, rounded to the input's type, multiplied by the weight (Zhang and Sennrich 2019,
arXiv 1910.07467). No argument is written over, and the weight's gradient is summed in the same order on every card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.nn.kernels import fused

if TYPE_CHECKING:
    from types import ModuleType

# Rows are divided over so many sums for the weight's gradient, on every card: the order of addition stays the same.
_PARTIAL_SUMS = 256


def rms_norm(states: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return ``states`` (N, H) normalised over H and multiplied by ``weight`` (H,)."""
    if not fused(states):
        return rms_norm_reference(states, weight, eps)
    # An autograd function around the operator, since the gradient of two outputs is one kernel.
    normed: Tensor = _RmsNorm.apply(states, weight, eps)  # type: ignore[no-untyped-call]
    return normed


def add_rms_norm(states: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return ``residual + states`` (N, H) and that sum normalised and multiplied by ``weight`` (H,)."""
    if not fused(states):
        total = residual + states
        return total, rms_norm_reference(total, weight, eps)
    both: tuple[Tensor, Tensor] = _AddRmsNorm.apply(states, residual, weight, eps)  # type: ignore[no-untyped-call]
    return both


def rms_norm_reference(states: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return what the kernel computes, in plain PyTorch, wider inside for float64."""
    wide = states.to(torch.promote_types(states.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    # Rounded before the weight, as LlamaRMSNorm does: the other order differs in the last bit of every layer.
    return weight * normed.to(states.dtype)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, eps: float) -> Tensor:  # noqa: ANN401 - autograd's context
        normed, scale = rms_norm_forward(states.contiguous(), weight, eps)
        ctx.save_for_backward(states, weight, scale)
        made: Tensor = normed
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # noqa: ANN401
        states, weight, scale = ctx.saved_tensors
        needed = ctx.needs_input_grad[1]
        slope, for_weight = rms_norm_backward(grad.contiguous(), None, states.contiguous(), weight, scale, needed)
        return slope, for_weight if needed else None, None


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        total, normed, scale = add_rms_norm_forward(states.contiguous(), residual.contiguous(), weight, eps)
        ctx.save_for_backward(total, weight, scale)
        ctx.types = states.dtype, residual.dtype
        return total, normed

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:  # noqa: ANN401
        total, weight, scale = ctx.saved_tensors
        needed = ctx.needs_input_grad[2]
        slope, for_weight = rms_norm_backward(grad.contiguous(), grad_total.contiguous(), total, weight, scale, needed)
        # The gradient of a sum is the same for both addends, each in its own type.
        for_states, for_residual = (slope.to(dtype) for dtype in ctx.types)
        return for_states, for_residual, for_weight if needed else None, None


@torch.library.custom_op("tts_train::rms_norm", mutates_args=())
def rms_norm_forward(states: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the normalised states (N, H) and each row's factor (N,) in float32."""
    rows, width = states.shape
    normed, scale = _made(states, weight)
    kernels = _kernels()
    settings = kernels.settings(width)
    kernels.forward[(rows,)](states, states, weight, states, normed, scale, width, eps, HAS_RESIDUAL=False, **settings)
    return normed, scale


@rms_norm_forward.register_fake
def _(states: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _made(states, weight)


@torch.library.custom_op("tts_train::add_rms_norm", mutates_args=())
def add_rms_norm_forward(states: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sum (N, H), the normalised sum and each row's factor (N,) in float32."""
    rows, width = states.shape
    total, normed, scale = _made_with_sum(states, residual, weight)
    kernels = _kernels()
    settings = kernels.settings(width)
    kernels.forward[(rows,)](states, residual, weight, total, normed, scale, width, eps, HAS_RESIDUAL=True, **settings)
    return total, normed, scale


@add_rms_norm_forward.register_fake
def _(states: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return _made_with_sum(states, residual, weight)


@torch.library.custom_op("tts_train::rms_norm_backward", mutates_args=())
def rms_norm_backward(
    grad: Tensor, grad_total: Tensor | None, states: Tensor, weight: Tensor, scale: Tensor, for_weight: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the states, that of the sum added, and of the weight; (0,) where that is not wanted."""
    rows, width = states.shape
    slope, gradient = _made_backward(states, weight, for_weight)
    sums = min(rows, _PARTIAL_SUMS)
    # Float32 rows for each program, added in one order afterwards: atomics would add in the order of arrival.
    partial = torch.empty(sums if for_weight else 1, width, dtype=torch.float32, device=states.device)
    kernels = _kernels()
    kernels.backward[(sums,)](
        grad,
        grad if grad_total is None else grad_total,
        states,
        weight,
        scale,
        slope,
        partial,
        rows,
        -(-rows // max(sums, 1)),
        width,
        HAS_TOTAL=grad_total is not None,
        FOR_WEIGHT=for_weight,
        **kernels.settings(width),
    )
    return slope, partial.sum(0).to(weight.dtype) if for_weight else gradient


@rms_norm_backward.register_fake
def _(
    grad: Tensor, grad_total: Tensor | None, states: Tensor, weight: Tensor, scale: Tensor, for_weight: bool
) -> tuple[Tensor, Tensor]:
    return _made_backward(states, weight, for_weight)


def _made(states: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    normed = torch.empty_like(states, dtype=torch.promote_types(states.dtype, weight.dtype))
    return normed, states.new_empty(states.shape[0], dtype=torch.float32)


def _made_with_sum(states: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    total = torch.empty_like(states, dtype=torch.promote_types(states.dtype, residual.dtype))
    return total, *_made(total, weight)


def _made_backward(states: Tensor, weight: Tensor, for_weight: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(states), torch.empty_like(weight) if for_weight else weight.new_empty(0)


def _kernels() -> ModuleType:
    from tts_train.nn.kernels import triton_rms_norm

    return triton_rms_norm
