"""Means in which every item counts the same, whatever batch and process it was in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning import Trainer
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class Means:
    """Sums and counts by name.

    Args:
        names: All names that may come, the same on every process: processes add up by place.
        device: Where the sums lie.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        # Apple's GPUs have no wider type.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(len(names), 2, dtype=wide, device=device)

    def add(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add ``count`` items that sum to ``total``; a name that is not among the names is left out."""
        if name in self._places:
            sums = self._sums[self._places[name]]
            sums[0] += total.detach()
            sums[1] += count

    def over(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return the means over all processes, those that anything was added to."""
        totals = strategy.reduce(self._sums, reduce_op="sum")
        assert isinstance(totals, Tensor)
        found = {name: totals[place] for name, place in self._places.items() if float(totals[place, 1])}
        return {name: (total / count).float() for name, (total, count) in found.items()}


def over_processes(trainer: Trainer, means: Sequence[Tensor], counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weigh means over so many things here by those of all processes.

    Returns:
        What to train on, with gradients, and the means over all processes, both (K,). Strategies average gradients over
        processes, so each trains on its share of the common mean times their number.
    """
    own = torch.stack(list(means))
    if trainer.world_size == 1:
        return own, own.detach()
    here = torch.tensor(counts, dtype=own.dtype).to(own.device, non_blocking=True)
    sums = trainer.strategy.reduce(torch.stack([own.detach() * here, here]), reduce_op="sum")
    assert isinstance(sums, Tensor)
    total = sums[1].clamp(min=1)
    return own * here * (trainer.world_size / total), sums[0] / total
