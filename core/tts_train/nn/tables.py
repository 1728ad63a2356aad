"""Constant tensors that are made once and kept: windows, filter banks, masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, TypeVar

import torch

from tts_train.nn.target import planned_tables

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Given = TypeVarTuple("Given")

Table = TypeVar("Table")

_KEPT = 8


def kept_table(make: Callable[[Unpack[Given]], Table]) -> Callable[[Unpack[Given]], Table]:
    """Keep what ``make`` returns for each of its latest 8 arguments, ready for training whoever asks first.

    ``functools.lru_cache`` alone would hand on what a validation made, an inference tensor that autograd cannot save,
    or what a plan made, a fake tensor without numbers.
    """
    kept = lru_cache(maxsize=_KEPT)(torch.inference_mode(False)(make))

    @wraps(make)
    def table(*given: Unpack[Given]) -> Table:
        planned = planned_tables()
        if planned is None:
            return kept(*given)
        # A plan's tensors are its own, and one kept from before would not be counted in it.
        key = (make, *given)
        if key not in planned:
            planned[key] = make(*given)
        made: Table = planned[key]
        return made

    return table
