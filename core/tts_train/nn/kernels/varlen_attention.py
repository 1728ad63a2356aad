"""Causal attention over documents of any length in one row: FlashAttention-2, as it is in PyTorch.

``torch.nn.attention.varlen`` calls the same kernel, but up to torch 2.11 refuses fewer heads for keys and values than
for queries, which the kernel takes, and adds up the gradient of the queries in the order in which blocks happen to
finish unless a global switch is set. Here grouped heads go in as they are and backward is deterministic. Dao 2023
(arXiv 2307.08691).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tts_train.nn.devices import planned_device, runs_on
from tts_train.nn.reproducible import deterministic_kernels

_TYPES = (torch.float16, torch.bfloat16)
# Limits of FlashAttention-2's kernels.
_WIDEST_HEAD = 256
_OLDEST = (8, 0)

# AOTriton's kernels stand behind the same operator on ROCm, where grouped heads were not tried.
_GROUPED = torch.version.hip is None


def has_flash_kernel(like: Tensor) -> bool:
    """Tell whether FlashAttention-2 takes queries like this one, (..., head_dim); in a plan for CUDA: will take.

    It asks for half precision, a head of a multiple of 8 up to 256, and a GPU of compute capability 8.0 (Ampere) or
    later; on ROCm the capability is another scale and the kernel is always there.
    """
    if like.dtype not in _TYPES or like.shape[-1] > _WIDEST_HEAD or like.shape[-1] % 8:
        return False
    if runs_on(like.device) != "cuda":
        return False
    # A plan is for a card that this machine need not have.
    if planned_device() is not None or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(like.device) >= _OLDEST


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, cumulative: Tensor, longest: int, scale: float | None = None
) -> Tensor:
    """Attend causally inside each document, on CUDA in half precision.

    Args:
        query: (T, heads, head_dim); the last dimension is contiguous, as in key and value.
        key: (T, key_heads, head_dim); ``heads`` is a multiple of ``key_heads``.
        value: (T, key_heads, head_dim).
        cumulative: Cumulative lengths (D + 1,), int32, from 0 to T.
        longest: Length of the longest document.
        scale: Factor on the scores, ``head_dim ** -0.5`` when None.

    Returns:
        (T, heads, head_dim).
    """
    if not _GROUPED and query.shape[1] != key.shape[1]:
        key, value = (each.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for each in (key, value))
    output: Tensor = _Varlen.apply(query, key, value, cumulative, longest, scale)  # type: ignore[no-untyped-call]
    return output


class _Varlen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's context takes any attribute
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cumulative: Tensor,
        longest: int,
        scale: float | None,
    ) -> Tensor:
        output: Tensor
        output, logsumexp = varlen_forward(query, key, value, cumulative, longest, scale)
        ctx.save_for_backward(query, key, value, cumulative, output, logsumexp)
        ctx.longest, ctx.scale = longest, scale
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, cumulative, output, logsumexp = ctx.saved_tensors
        slopes = varlen_backward(
            grad.contiguous(), query, key, value, output, logsumexp, cumulative, ctx.longest, ctx.scale
        )
        return *slopes, None, None, None


@torch.library.custom_op("tts_train::varlen_attention", mutates_args=())
def varlen_forward(
    query: Tensor, key: Tensor, value: Tensor, cumulative: Tensor, longest: int, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Return the attention and its scores' log-sum-exp (heads, T), float32."""
    made = torch.ops.aten._flash_attention_forward(
        query, key, value, cumulative, cumulative, longest, longest, 0.0, True, False, scale=scale
    )
    return made[0], made[1]


@varlen_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, cumulative: Tensor, longest: int, scale: float | None) -> Any:  # noqa: ANN401
    if torch.version.hip:
        # AOTriton lays its sums out by document, padded to the longest.
        sums = query.new_empty((cumulative.numel() - 1, query.shape[1], longest), dtype=torch.float32)
    else:
        sums = query.new_empty((query.shape[1], query.shape[0]), dtype=torch.float32)
    return torch.empty_like(query), sums


@torch.library.custom_op("tts_train::varlen_attention_backward", mutates_args=())
def varlen_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    cumulative: Tensor,
    longest: int,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values, the same bits every time."""
    # What the kernel drew for dropout, which there is not, and an argument that it no longer looks at.
    drawn, unused = torch.zeros(2, dtype=torch.uint64, device=query.device), query.new_empty(0)
    with deterministic_kernels():
        slopes: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
            grad,
            query,
            key,
            value,
            output,
            logsumexp,
            cumulative,
            cumulative,
            longest,
            longest,
            0.0,
            True,
            drawn,
            unused,
            scale=scale,
        )
    return slopes


@varlen_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: object) -> Any:  # noqa: ANN401
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
