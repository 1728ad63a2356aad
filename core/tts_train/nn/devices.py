"""Which device a tensor is for, also in a plan, whose tensors are only shapes; constants and streams of each device.

Code that chooses a kernel by its tensors' device asks here. Constant tensors (windows, filter banks, masks) and CUDA
streams for work beside the computation are made once for each device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch


@dataclass(frozen=True)
class _Plan:
    device: str
    tables: dict[Hashable, Any] = field(default_factory=dict)


# The plans in progress, the innermost last. A plan runs in one thread, and compiled code can read a list.
_PLANS: list[_Plan] = []


def planned_device() -> str | None:
    """Return the type of the device that a step is being planned for, None outside of a plan."""
    return _PLANS[-1].device if _PLANS else None


def planned_tables() -> dict[Hashable, Any] | None:
    """Return the constant tensors that the plan in progress has made, None outside of a plan."""
    return _PLANS[-1].tables if _PLANS else None


# Compared as a word, since a plan for CUDA runs on machines whose torch knows no such device.
def runs_on(device: torch.device) -> str:
    """Return the type of a tensor's device: in a plan, that of the device planned for."""
    return planned_device() or device.type


@contextmanager
def planning_for(device: str) -> Iterator[None]:
    """Plan for a device type, ``cuda`` or ``cpu``, within the block."""
    _PLANS.append(_Plan(device))
    try:
        yield
    finally:
        _PLANS.pop()


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


@functools.cache
def side_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:  # noqa: ARG001 - a key of the cache
    """Return the stream of a device for a purpose, such as ``offload``; the same one each time.

    A stream of its own for each use would keep freed memory to itself in torch's allocator.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
