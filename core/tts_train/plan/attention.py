"""Operations of packed attention's kernel, which the list of counted operators lacks."""

from __future__ import annotations

from typing import Any

import torch

_FORWARD, _BACKWARD = "varlen_attention", "varlen_attention_backward"
_PRODUCTS = {_FORWARD: 2, _BACKWARD: 5}
"""Scores and values forward; backward makes the scores again, and gradients of values, weights, queries and keys."""


def varlen_flops(func: Any, args: tuple[Any, ...]) -> int:  # noqa: ANN401 - any operator
    """Return the operations of packed attention, 0 for any other operator.

    The triangle above the diagonal is counted too, as it is for the other kernels of attention.
    """
    name = getattr(func, "_opname", None)
    if getattr(func, "namespace", None) != "tts_train" or name not in _PRODUCTS:
        return 0
    query = args[0] if name == _FORWARD else args[1]
    cumulative = next(value for value in args if getattr(value, "dtype", None) == torch.int32 and value.ndim == 1)
    squares = sum(length**2 for length in cumulative.diff().tolist())
    _, heads, width = query.shape
    return int(2 * _PRODUCTS[name] * heads * width * squares)
