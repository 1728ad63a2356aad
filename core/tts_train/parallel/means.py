"""Means in which every item counts the same, whatever batch and process it was in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy
from torch import Tensor


def wide_type(device: torch.device | str) -> torch.dtype:
    """Return the widest floating type of a device: float64, but float32 on Apple GPUs, which have nothing wider."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


class Means:
    """Sums and counts by name, over a validation set for example.

    Args:
        names: all names that may come, the same on every process: processes add up by place.
        device: where the sums lie.
    """

    def __init__(self, names: Iterable[str], device: torch.device | str) -> None:
        self._places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        # In float32 a sum over a large set would round away what is added to it.
        self._sums = torch.zeros(len(self._places), 2, dtype=wide_type(device), device=device)

    def add(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add ``count`` items that sum to ``total``; a name that is not among the names is left out."""
        if name in self._places:
            sums = self._sums[self._places[name]]
            sums[0] += total.detach()
            sums[1] += count

    def over(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return the means over all processes, by name; names to which nothing was added are left out."""
        # Sums and counts in one message: processes may have had different numbers of items.
        totals = strategy.reduce(self._sums, reduce_op="sum")
        assert isinstance(totals, Tensor)
        # One wait for the card for all names; a figure that nothing was added to has no mean.
        counts = totals[:, 1].tolist()
        return {name: (totals[at, 0] / totals[at, 1]).float() for name, at in self._places.items() if counts[at]}


def weighted(trainer: Trainer, means: Sequence[Tensor], counts: Sequence[int | Tensor]) -> tuple[Tensor, Tensor]:
    """Weigh means over a number of items here by those of all processes.

    Args:
        trainer: the run's.
        means: K means over this process's items, each ().
        counts: how many items each is over, here.

    Returns:
        (K,) what to train on, with gradients, and (K,) the means over all processes, without. Strategies average
        gradients over processes, so each process trains on its share of the common mean times their number.
    """
    own = torch.stack(list(means))
    if trainer.world_size == 1:
        return own, own.detach()
    here = torch.stack([torch.as_tensor(count, dtype=own.dtype) for count in counts]).to(own.device, non_blocking=True)
    sums = trainer.strategy.reduce(torch.stack([own.detach() * here, here]), reduce_op="sum")
    assert isinstance(sums, Tensor)
    # A batch may have no item of a kind on any process, such as pairs in rehearsal.
    total = sums[1].clamp(min=1)
    return own * here * (trainer.world_size / total), sums[0] / total


def unweighted(trainer: Trainer, figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return figures averaged over the processes, whose batches have as many items, without gradients."""
    own = torch.stack(list(figures.values())).detach()
    if trainer.world_size > 1:
        reduced = trainer.strategy.reduce(own, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        own = reduced
    return dict(zip(figures, own, strict=True))


def summed(trainer: Trainer, total: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return a sum over items and their number (at least 1) over all processes, both () and without gradients."""
    wide = wide_type(total.device)
    sums = torch.stack([total.detach().to(wide), total.new_full((), count, dtype=wide)])
    if trainer.world_size > 1:
        reduced = trainer.strategy.reduce(sums, reduce_op="sum")
        assert isinstance(reduced, Tensor)
        sums = reduced
    return sums[0].float(), sums[1].clamp(min=1).float()
