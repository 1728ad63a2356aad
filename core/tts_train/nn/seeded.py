"""Random initial weights that are the same whatever device a network is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_on_cpu(seed: int, *, like: torch.Tensor | None = None) -> Iterator[None]:
    """Within the block, modules are made on the CPU and drawn from ``seed``; no random stream of the run moves.

    Lightning builds networks while the run's device is torch's default one, on which the same seed gives other numbers.

    Args:
        seed: Of the CPU's generator; those of other devices are left alone.
        like: A tensor of what is added to; on ``meta`` nothing is drawn, and modules are made there.
    """
    device = torch.device("meta" if like is not None and like.is_meta else "cpu")
    with device, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
