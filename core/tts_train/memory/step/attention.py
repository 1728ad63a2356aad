"""Operations and working memory of packed attention's kernel, of which a plan sees inputs and outputs only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FORWARD, _BACKWARD = "varlen_attention", "varlen_attention_backward"
_PRODUCTS = {_FORWARD: 2, _BACKWARD: 5}
"""Scores and values forward; backward makes the scores again, and gradients of values, weights, queries and keys."""

_PROCESSORS = 132
"""Multiprocessors of an H100: with fewer heads and documents than that, backward adds up in several places."""
_PAST_EACH = 128
"""Rows past each document's last that backward may write to."""


def varlen_flops(func: Any, args: tuple[Any, ...]) -> int:  # noqa: ANN401 - any operator
    """Return the operations of packed attention, 0 for any other operator.

    The triangle above the diagonal is counted too, as it is for the other kernels of attention.
    """
    name = _name(func)
    if name is None:
        return 0
    query = args[0] if name == _FORWARD else args[1]
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
