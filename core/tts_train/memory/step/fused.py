"""Functions that a GPU computes in one kernel and a CPU in several: in a plan the kernel is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _foreach_utils

_aten = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def fused_kernels() -> Iterator[None]:
    """Within the block attention and dropout keep for backward what their CUDA kernels keep.

    Clipping and optimisers work on many tensors at a time, as they choose to on CUDA.

    Attention without a mask in half precision is FlashAttention-2, all other the memory-efficient kernel, whose mask
    becomes a number for each query and key; dropout keeps a byte for each element. The functions are replaced, since a
    mode for torch's functions is not there while a layer is computed again in backward.
    """
    with (
        patch.object(_foreach_utils, "_get_foreach_kernels_supported_devices", lambda: ["cpu"]),
        patch.object(
            sys.modules[torch.optim.Optimizer.__module__], "_get_foreach_kernels_supported_devices", lambda: ["cpu"]
        ),
        patch.object(F, "scaled_dot_product_attention", _attention),
        patch.object(F, "dropout", _dropout),
    ):
        yield


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: ARG001 - as torch
    if not training or p == 0.0:
        return input
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
