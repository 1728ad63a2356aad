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
        own = total.detach().to(_wide(total.device))
        pair = torch.stack([own, torch.full_like(own, count)])
        before = self._pairs.get(name)
        # The type first: a tensor that is too wide for a device cannot be moved there.
        self._pairs[name] = pair if before is None else before.to(pair.dtype).to(pair.device) + pair

    def means(self, trainer: Trainer) -> dict[str, Tensor]:
        """Return the mean of each name over all processes."""
        place = trainer.strategy.root_device
        reduced = {
            name: trainer.strategy.reduce(self._pairs[name].to(_wide(place)).to(place), reduce_op="sum")
            for name in sorted(self._pairs)
        }
        return {name: (pair[0] / pair[1].clamp(min=1)).float() for name, pair in reduced.items()}


def _wide(device: torch.device) -> torch.dtype:
    """Return the widest floating type of a device; Apple's GPUs have none above float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def over_processes(trainer: Trainer, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means of losses over the processes, whose batches are of one size, without gradients."""
    figures = torch.stack(list(parts.values())).detach()
    if trainer.world_size > 1:
        reduced = trainer.strategy.reduce(figures, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        figures = reduced
    return dict(zip(parts, figures, strict=True))
