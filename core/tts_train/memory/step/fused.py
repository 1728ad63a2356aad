"""Kernels that a GPU computes at once and a CPU in several steps: in a plan the kernel is asked for.

Of packed attention's kernel a plan sees inputs and outputs only; its operations and working memory are stated here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _foreach_utils

_FORWARD, _BACKWARD = "varlen_attention", "varlen_attention_backward"
# Scores and values forward; backward makes the scores again, and gradients of values, weights, queries and keys.
_PRODUCTS = {_FORWARD: 2, _BACKWARD: 5}

# Multiprocessors of an H100: with fewer heads and documents than that, backward adds up in several places.
_PROCESSORS = 132
# Rows past each document's last that backward may write to.
_PAST_EACH = 128


def varlen_flops(func: Any, args: tuple[Any, ...]) -> int:  # noqa: ANN401 - any operator
    """Return the operations of packed attention, 0 for any other operator.

    The triangle above the diagonal is counted too, as it is for the other kernels of attention.
    """
    name = _name(func)
    if name is None:
        return 0
    query = args[0] if name == _FORWARD else args[1]
    # Lengths are integers and so real, also in a plan.
    squares = sum(length**2 for length in _cumulative(args).diff().tolist())
    _, heads, width = query.shape
    return int(2 * _PRODUCTS[name] * heads * width * squares)


def varlen_working_bytes(func: Any, args: tuple[Any, ...]) -> int:  # noqa: ANN401
    """Return the memory that the kernel's backward takes while it runs, 0 for any other operator.

    FlashAttention-2's deterministic backward sums the queries' gradient in float32, in so many places that all
    multiprocessors are busy, and makes those of keys and values for every head of the queries before it groups them.
    """
    if _name(func) != _BACKWARD:
        return 0
    query, key = args[1], args[2]
    tokens, heads, width = query.shape
    documents = _cumulative(args).numel() - 1
    # The sizes below are those that FlashAttention-2's host code allocates, rounding included.
    rows = tokens + _PAST_EACH * documents
    places = -(-_PROCESSORS // (documents * heads))
    rounded = -(-width // 32) * 32 if width <= 128 else -(-width // 64) * 64
    sums = 4 * heads * rows * (places * rounded + 1)
    ungrouped = 2 * query.numel() * query.element_size() if key.shape[1] != heads else 0
    return int(sums + ungrouped)


def _name(func: Any) -> str | None:  # noqa: ANN401
    name = getattr(func, "_opname", None)
    return name if getattr(func, "namespace", None) == "tts_train" and name in _PRODUCTS else None


def _cumulative(args: tuple[Any, ...]) -> Tensor:
    found: Tensor = next(each for each in args if getattr(each, "dtype", None) == torch.int32 and each.ndim == 1)
    return found


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
        # torch asks by device, and a plan's tensors claim to be on the CPU.
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
    # The function that is replaced is cast by autocast; its stand-in has to do so itself.
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
