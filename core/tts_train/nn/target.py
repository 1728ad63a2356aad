"""Which device a plan is for: code that chooses a kernel by its tensors' device asks here when they are only shapes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class _Plan:
    device: str
    tables: dict[Hashable, Any] = field(default_factory=dict)


_PLAN: ContextVar[_Plan | None] = ContextVar("plan", default=None)


def planned_device() -> str | None:
    """Return the type of the device that a step is being planned for, None outside of a plan."""
    plan = _PLAN.get()
    return None if plan is None else plan.device


def planned_tables() -> dict[Hashable, Any] | None:
    """Return the constant tensors that the plan in progress has made, None outside of a plan."""
    plan = _PLAN.get()
    return None if plan is None else plan.tables


def runs_on(device: torch.device) -> str:
    """Return the type of a tensor's device: in a plan, that of the device planned for."""
    return planned_device() or device.type


@contextmanager
def planning_for(device: str) -> Iterator[None]:
    """Plan for a device type, ``cuda`` or ``cpu``, within the block."""
    token = _PLAN.set(_Plan(device))
    try:
        yield
    finally:
        _PLAN.reset(token)
