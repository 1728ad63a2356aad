"""What upstream does and the product does not, restated for the parity tests: its padding, rates and shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from tts_train.datasets import Corruption
from tts_train_gpt_sovits.stages.gpt.batches import UpstreamSampler
from tts_train_gpt_sovits.stages.gpt.optimizer import LOCKED_RATE


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


def corrupt_padded(codes: Tensor, corruptions: list[Corruption]) -> tuple[Tensor, Tensor]:
    """Corrupt padded rows (B, Y) as upstream does, padding included.

    Returns:
        The rows padded with 0 to the longest, and their lengths (B,), in which the old padding counts.
    """
    rows = [each.of(row) for row, each in zip(codes, corruptions, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def share(seconds: Sequence[float], batch_size: int, *, replicas: int, rank: int, epoch: int) -> list[int]:
    """Return one process's rows of an epoch in order; the last ones repeat the first until all have as many."""
    flat = UpstreamSampler(seconds, batch_size * replicas).indices(epoch)
    whole = -(-len(flat) // replicas) * replicas
    return list(islice(cycle(flat), whole))[rank::replicas]
