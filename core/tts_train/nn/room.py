"""Work in batches that memory has room for: what does not fit at once is done in smaller parts."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

logger = logging.getLogger(__name__)


def in_batches(
    work: Callable[[Sequence[Item]], Sequence[Made]], items: Sequence[Item], most: int, *, what: str
) -> list[Made]:
    """Do ``work`` on up to ``most`` items at a time, on half as many each time that memory runs out.

    Args:
        work: Gives one result for each item, the same in whatever batch it is.
        items: What is to be done, in order.
        most: Items at once to begin with, at least 1.
        what: What the items are, for the log.

    Raises:
        torch.OutOfMemoryError: if there is no room for a single one.
    """
    made: list[Made] = []
    while len(made) < len(items):
        batch = items[len(made) : len(made) + most]
        try:
            made += work(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            # For all that follow as well: what did not fit once will hardly fit again.
            most = len(batch) // 2
        else:
            continue
        # Not within the handler, whose error still holds the tensors that did not fit.
        free_memory()
        logger.warning("No memory for %d %s at once; going on with %d.", len(batch), what, most)
    return made


def free_memory() -> None:
    """Let go of what nobody uses any more, on the host and on the card."""
    # First, since tensors in reference cycles are what empty_cache cannot give back.
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int | None:
    """Return what may still be allocated on a card, memory that torch holds without using it included; else None."""
    if device.type != "cuda":
        return None
    # The driver counts torch's cached blocks as used, though the next allocation may take them.
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
