"""Functions that a GPU computes in one kernel and a CPU in several: in a plan the kernel is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)


class FusedKernels(TorchFunctionMode):
    """Within the block attention and dropout of shapes keep for backward what their CUDA kernels keep.

    Attention without a mask in half precision is FlashAttention-2, all other the memory-efficient kernel, whose mask
    becomes a number for each query and key; dropout keeps a byte for each element.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Call a function of torch, or what stands for it."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func is Tensor.backward:
            with self:  # what is computed again in backward must be what forward computed
                _backward(*args, **kwargs)
            return None
        return func(*args, **kwargs)


def _backward(
    loss: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    torch.autograd.backward(loss, gradient, retain_graph, create_graph, inputs=inputs)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0.0 or inplace:
        return F.dropout(input, p, training, inplace)
    dropped: Tensor = torch.native_dropout(input, p, True)[0]
    return dropped


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (each.to(torch.get_autocast_dtype("cpu")) for each in (query, key, value))
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
    if attn_mask is None and query.dtype in _HALF:
        flash = _aten._scaled_dot_product_flash_attention
        made: tuple[Tensor, ...] = flash(query, key, value, dropout_p, is_causal, scale=scale)
        return made[0]
    bias = None
    if attn_mask is not None:
        number = query.new_empty(attn_mask.shape) if attn_mask.dtype == torch.bool else attn_mask
        bias = number.expand(*query.shape[:-1], key.shape[-2])
    efficient = _aten._scaled_dot_product_efficient_attention
    made = efficient(query, key, value, bias, True, dropout_p, is_causal, scale=scale)
    return made[0]
