"""The learning rate of the text-to-semantic stage: the one that upstream writes down, and the one it uses.

Upstream computes a warm-up and a cosine, then overwrites the result with 0.002 at every scheduler step; its constructor
sets nothing, so the first optimiser step alone runs at the optimiser's own rate. Known recipes depend on that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

LOCKED_RATE = 0.002
"""The rate of every optimiser step but the first."""


@dataclass(frozen=True)
class UpstreamSchedule:
    """The numbers of upstream's configuration; only ``lr`` has an effect there, on the first step."""

    lr: float = 0.01
    lr_init: float = 1e-5
    lr_end: float = 1e-4
    warmup_steps: int = 2000
    decay_steps: int = 40000

    def effective(self, step: int) -> float:
        """Return the rate that optimiser step ``step`` (from 0) runs at."""
        return self.lr if step == 0 else LOCKED_RATE

    def reported(self, step: int) -> float:
        """Return the rate that upstream logs before scheduler step ``step``; it lags one behind."""
        return self.lr_init if step == 0 else self.effective(step - 1)

    def nominal(self, step: int) -> float:
        """Return the rate that was meant: a line up to ``lr``, then half a cosine down to ``lr_end``."""
        if step < self.warmup_steps:
            return self.lr_init + (self.lr - self.lr_init) * step / self.warmup_steps
        if step >= self.decay_steps:
            return self.lr_end
        progress = (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps)
        return self.lr_end + 0.5 * (1 + math.cos(math.pi * progress)) * (self.lr - self.lr_end)


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
