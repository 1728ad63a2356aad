"""The learning rate of the text-to-semantic stage: the one that upstream writes down, and the one it uses.

Upstream computes a warm-up and a cosine, then overwrites the result with 0.002 at every scheduler step; its constructor
sets nothing, so the first optimiser step alone runs at the optimiser's own rate. Known recipes depend on that.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

LOCKED_RATE = 0.002
"""The rate of every optimiser step but the first."""


def build_upstream_schedule(optimizer: Optimizer, *, later: float = LOCKED_RATE, done: int = 0) -> LambdaLR:
    """Build the schedule as it works, stepped once an optimiser step: the optimiser's rate once, then ``later``.

    Args:
        optimizer: Its groups' ``lr`` is the rate of the first step.
        later: Rate of every step but the first.
        done: Steps that upstream did before; after the first of them there is no first step to come.
    """
    bases = [group["lr"] for group in optimizer.param_groups]
    return LambdaLR(optimizer, [_locked(later / base, done) for base in bases])


def _locked(factor: float, done: int) -> Callable[[int], float]:
    return lambda step: 1.0 if step + done == 0 else factor
