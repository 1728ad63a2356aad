"""Which device a plan is for: code that chooses a kernel by its tensors' device asks here when they are only shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_TARGET: ContextVar[str | None] = ContextVar("planned_device", default=None)


def planned_device() -> str | None:
    """Return the type of the device that a step is being planned for, None outside of a plan."""
    return _TARGET.get()


def runs_on(device: torch.device) -> str:
    """Return the type of a tensor's device: in a plan, that of the device planned for."""
    return _TARGET.get() or device.type


@contextmanager
def planning_for(device: str) -> Iterator[None]:
    """Plan for a device type, ``cuda`` or ``cpu``, within the block."""
    token = _TARGET.set(device)
    try:
        yield
    finally:
        _TARGET.reset(token)
