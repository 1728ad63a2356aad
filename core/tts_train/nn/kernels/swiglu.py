"""``silu(gate) * up`` in one pass, and its gradients in one (Shazeer 2020, arXiv 2002.05202).

Backward computes the sigmoid again from ``gate``. No argument is written over: what forward saved stays as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.nn.kernels import fused

if TYPE_CHECKING:
    from types import ModuleType

_BLOCK = 1024


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``, both of one shape and type; silu is rounded to that type first, as in Llama."""
    if not fused(gate):
        return F.silu(gate) * up
    product: Tensor = _Swiglu.apply(gate, up)  # type: ignore[no-untyped-call]
    return product


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        # Not the sigmoid: computing it again costs less than reading it.
        ctx.save_for_backward(gate, up)
        made: Tensor = swiglu_forward(gate.contiguous(), up.contiguous())
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        gate, up = ctx.saved_tensors
        made: tuple[Tensor, Tensor] = swiglu_backward(grad.contiguous(), gate.contiguous(), up.contiguous())
        return made


@torch.library.custom_op("tts_train::swiglu", mutates_args=())
def swiglu_forward(gate: Tensor, up: Tensor) -> Tensor:
    """Return the product."""
    made = torch.empty_like(gate)
    size = gate.numel()
    _kernels().forward[(-(-size // _BLOCK),)](gate, up, made, size, BLOCK=_BLOCK)
    return made


@swiglu_forward.register_fake
def _(gate: Tensor, up: Tensor) -> Tensor:
    return torch.empty_like(gate)


@torch.library.custom_op("tts_train::swiglu_backward", mutates_args=())
def swiglu_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``gate`` and ``up``."""
    made = torch.empty_like(gate), torch.empty_like(up)
    size = gate.numel()
    _kernels().backward[(-(-size // _BLOCK),)](grad, gate, up, *made, size, BLOCK=_BLOCK)
    return made


@swiglu_backward.register_fake
def _(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gate), torch.empty_like(up)


def _kernels() -> ModuleType:
    from tts_train.nn.kernels import triton_swiglu

    return triton_swiglu
