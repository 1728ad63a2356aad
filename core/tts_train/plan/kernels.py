"""Optimisers whose kernels cannot run on shapes: their states are made as always, the kernel is left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch


@contextmanager
def eight_bit_without_kernels() -> Iterator[None]:
    """Within the block bitsandbytes' optimisers allocate their states and update nothing.

    Their update is one kernel a parameter that works in place, so nothing is lost but the arithmetic. Paged states are
    counted as if they stayed on the card, where they are while there is room.
    """
    try:
        from bitsandbytes.optim import optimizer as bnb
    except ImportError:
        yield
        return
    with ExitStack() as stack:
        for kind in (bnb.Optimizer1State, bnb.Optimizer2State):
            stack.enter_context(patch.object(kind, "update_step", _nothing))
        yield


def _nothing(*_: object, **__: object) -> None:
    return None
