"""Which device a plan is for: code that chooses a kernel by its tensors' device asks here when they are only shapes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class _Plan:
    device: str
    tables: dict[Hashable, Any] = field(default_factory=dict)


_PLANS: list[_Plan] = []
"""The plans in progress, the innermost last. A plan runs in one thread, and compiled code can read a list."""


def planned_device() -> str | None:
    """Return the type of the device that a step is being planned for, None outside of a plan."""
    return _PLANS[-1].device if _PLANS else None


def planned_tables() -> dict[Hashable, Any] | None:
    """Return the constant tensors that the plan in progress has made, None outside of a plan."""
    return _PLANS[-1].tables if _PLANS else None


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
