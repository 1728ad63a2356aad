"""Feeds the module: lines of letters. The base class makes batches resumable; here is only what is in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tts_train.contract import StageData
from tts_train_toy.network import letters

LINE = 16


class ToyData(StageData):
    """Cuts a text into lines of 16 letters.

    Args:
        text: What to learn from.
        batch_size: Lines in a batch.
        seed: Seed of the order of batches.
        num_workers: Processes that load data.
    """

    def __init__(
        self,
        text: str = "the quick brown fox jumps over the lazy dog and then hums a little tune all the way home",
        batch_size: int = 2,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        self.text, self.batch_size = text, batch_size

    budget = "batch_size"

    def sample_batch(self, size: int) -> Tensor:
        """A batch of ``size`` lines for ``tts-train plan``, which finds how many fit a card; any letters do."""
        return torch.zeros(size, LINE, dtype=torch.long)

    def setup(self, stage: str) -> None:
        """Cut the text; the last line is for validation."""
        whole = letters(self.text)
        lines = [whole[i : i + LINE] for i in range(0, len(whole) - LINE + 1, LINE)]
        self.train_set, self.val_set = lines[:-1], lines[-1:]

    def train_batches(self, epoch: int) -> list[list[int]]:
        """Shuffle the lines: a pure function of seed and epoch, as the batches of every stage must be."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.train_set), generator=generator).tolist()
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def val_batches(self) -> list[list[int]]:
        """One line."""
        return [[0]]

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        """Stack lines to shape (B, 16)."""
        return torch.stack(list(rows))
