"""Means that do not depend on processes, and over a validation set not on batches either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from lightning import Trainer
from torch import Tensor


class Sums:
    """Totals and counts by name.

    Args:
        names: Names that every process must have, whether or not it meets one of them.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._pairs: dict[str, Tensor] = {name: torch.zeros(2, dtype=torch.float64) for name in names}

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Add a total over ``count`` things."""
        pair = torch.stack([total.detach().double(), total.new_tensor(count).double()])
        before = self._pairs.get(name)
        self._pairs[name] = pair if before is None else before.to(pair.device) + pair

    def means(self, trainer: Trainer) -> dict[str, Tensor]:
        """Return the mean of each name over all processes."""
        reduced = {
            name: trainer.strategy.reduce(self._pairs[name].to(trainer.strategy.root_device), reduce_op="sum")
            for name in sorted(self._pairs)
        }
        return {name: (pair[0] / pair[1].clamp(min=1)).float() for name, pair in reduced.items()}


def over_processes(trainer: Trainer, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means of losses over the processes, whose batches are of one size, without gradients."""
    figures = torch.stack(list(parts.values())).detach()
    if trainer.world_size > 1:
        reduced = trainer.strategy.reduce(figures, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        figures = reduced
    return dict(zip(parts, figures, strict=True))
