"""Optimisers whose kernels cannot run on shapes: their states are made as always, the kernel is left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor

from tts_train.nn.kernels.left_out import left_out


@contextmanager
def eight_bit_without_kernels() -> Iterator[None]:
    """Within the block bitsandbytes' optimisers allocate their states and update nothing.

    Their update is one kernel a parameter that works in place; it is counted as one. Paged states are
    counted as if they stayed on the card, where they are while there is room.
    """
    try:
        from bitsandbytes.optim import optimizer as bnb
    except ImportError:
        yield
        return
    with ExitStack() as stack:
        for kind in (bnb.Optimizer1State, bnb.Optimizer2State):
            stack.enter_context(patch.object(kind, "update_step", _no_update))
        yield


def _no_update(optimizer: Any, _: object, parameter: Tensor, *__: object) -> None:  # noqa: ANN401 - bitsandbytes' own
    """Take the place of ``Optimizer8bit.update_step``."""
    states = [value for value in optimizer.state[parameter].values() if isinstance(value, Tensor)]
    kept = [parameter.detach(), *states]
    if parameter.grad is not None:
        left_out(f"bitsandbytes::{optimizer.optimizer_name}", [parameter.grad, *kept], kept)
