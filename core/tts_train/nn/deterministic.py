"""Deterministic kernels for one operator, without the global switch that forbids others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Within the block, operators that have a deterministic CUDA implementation use it.

    An operator without one raises, so wrap only what has one. ``torch.empty`` is not filled with NaN, which
    ``torch.use_deterministic_algorithms`` would otherwise do at the cost of a pass over memory.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # its one attribute is a property, which no type checker sees
    filled = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = filled and enabled
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        settings.fill_uninitialized_memory = filled
