"""Batches of utterances of like length, the same on every process and in every run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from tts_train.contract import DataError

GAN_BOUNDARIES = (32, *range(300, 2000, 100))
"""Frames of 20 ms between the buckets; utterances outside are left out.

Upstream ends at 1000 for v3 and v4: that is the 20 seconds of ``--data.max_seconds`` in the stage ``cfm``.
"""


class BucketSampler(Sampler[list[int]]):
    """Whole batches from buckets of like length, shuffled by a generator that the epoch seeds.

    Every process sees as many batches of the same buckets at the same step. A bucket is filled up by repeating its
    utterances in order.

    Args:
        lengths: Length of each utterance in frames.
        batch_size: Utterances of a batch on one process.
        boundaries: Ascending; a length belongs between a boundary, not included, and the next, included.
        num_replicas: Processes.
        rank: This process.
        shuffle: Whether the order changes with the epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        boundaries: Sequence[int] = GAN_BOUNDARIES,
        num_replicas: int = 1,
        rank: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.batch_size = batch_size
        self.num_replicas = num_replicas
        self.rank = rank
        self.shuffle = shuffle
        self.epoch = 0
        made = [
            [i for i, length in enumerate(lengths) if _bucket(boundaries, length) == b]
            for b in range(len(boundaries) - 1)
        ]
        self.buckets = [bucket for bucket in made if bucket]
        self.boundaries = [boundaries[0], *(top for top, bucket in zip(boundaries[1:], made, strict=True) if bucket)]
        self.num_dropped = len(lengths) - sum(map(len, self.buckets))
        if not self.buckets:
            raise DataError(
                f"None of {len(lengths)} utterances is longer than {boundaries[0] / 50:g} s and at most "
                f"{boundaries[-1] / 50:g} s long. Slice long recordings and leave out very short ones."
            )
        whole = batch_size * num_replicas
        self.bucket_sizes = [-(-len(bucket) // whole) * whole for bucket in self.buckets]

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch whose order comes next; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the batches of an epoch on this process."""
        return sum(self.bucket_sizes) // (self.batch_size * self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's batches of the epoch as lists of utterance numbers."""
        generator = torch.Generator().manual_seed(self.epoch)
        orders = [self._order(len(bucket), generator) for bucket in self.buckets]
        batches = [
            batch
            for bucket, size, order in zip(self.buckets, self.bucket_sizes, orders, strict=True)
            for batch in self._share(bucket, size, order)
        ]
        for i in self._order(len(batches), generator):
            yield batches[i]

    def _share(self, bucket: Sequence[int], size: int, order: Sequence[int]) -> list[list[int]]:
        """Return this process's batches of one bucket."""
        filled = [bucket[order[i % len(order)]] for i in range(size)]
        mine = filled[self.rank :: self.num_replicas]
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def _order(self, count: int, generator: torch.Generator) -> list[int]:
        return torch.randperm(count, generator=generator).tolist() if self.shuffle else list(range(count))


def _bucket(boundaries: Sequence[int], length: int) -> int:
    """Return the bucket of a length, -1 for below the first; past the last for above."""
    return bisect_left(boundaries, length) - 1
