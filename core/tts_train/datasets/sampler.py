"""Resumable batches: which rows a rank sees when is a pure function of the epoch and the position in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import Sampler

from tts_train.errors import DataError

BatchesOfEpoch = Callable[[int], Sequence[Sequence[int]]]
"""Epoch to batches of row indices; must give the same answer whenever and wherever it is asked."""

Position = Callable[[], tuple[int, int]]
"""Asked when an iterator gives its first batch: (epoch, batches of it that this rank has had already)."""

logger = logging.getLogger(__name__)


class ResumableBatchSampler(Sampler[list[int]]):
    """One rank's batches: ``batches(epoch)[rank::world_size]``, from the position that training has reached.

    Every epoch has the same number of batches on every rank and in every epoch, that of epoch 0 divided by
    the ranks: Lightning counts an epoch's batches once. Where a later epoch has more, the batches beyond that number
    wait for another epoch's shuffle; where it has fewer, or where ``fill`` is set and the ranks do not divide the
    epoch, batches from its beginning are repeated. :meth:`tail` says how many.

    Args:
        batches: epoch to all batches of it, those of all ranks.
        rank: this process, from 0.
        world_size: number of processes.
        position: where training stands; without it every iteration starts the epoch set by :meth:`set_epoch`.
        fill: repeat batches rather than leave some out if the ranks do not divide the batches (validation).

    Raises:
        DataError: from ``len`` and iteration, if there is not a batch for each rank.
    """

    def __init__(
        self,
        batches: BatchesOfEpoch,
        rank: int = 0,
        world_size: int = 1,
        *,
        position: Position | None = None,
        fill: bool = False,
    ) -> None:
        self._batches_of = batches
        self._rank = rank
        self._world_size = world_size
        self._position = position
        self._fill = fill
        self._epoch = 0
        self._length: int | None = None
        self._cached: tuple[int, Sequence[Sequence[int]]] | None = None
        self._tails_told: set[int] = set()
        self.started_at: tuple[int, int] | None = None
        """The (epoch, batches had) at which the latest iterator gave its first batch; None before that."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; has no effect where a ``position`` was given."""
        self._epoch = epoch

    def __len__(self) -> int:
        if self._length is None:
            batches = len(self._of_all_ranks(0))
            # Rounded down in training: a process with a batch less would leave the others waiting in its last step.
            self._length = -(-batches // self._world_size) if self._fill else batches // self._world_size
            if self._length == 0:
                raise DataError(
                    f"There are {batches} batches for {self._world_size} processes, so some would have none. "
                    "Use fewer devices, lower the batch size (--data.max_tokens), or add data."
                )
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        # In a generator this runs when the first batch is asked for, and not when the iterator is made.
        epoch, done = self._position() if self._position is not None else (self._epoch, 0)
        self.started_at = (epoch, done)
        for batch in self.batches(epoch)[done:]:
            yield list(batch)

    def batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return all of this rank's batches of an epoch."""
        every = self._of_all_ranks(epoch)
        count = len(self) * self._world_size
        self._tell_tail(epoch)
        chosen = [every[index % len(every)] for index in range(self._rank, count, self._world_size)]
        return chosen if every else []

    def tail(self, epoch: int) -> int:
        """Return how many batches an epoch leaves out; negative: how many it repeats."""
        return len(self._of_all_ranks(epoch)) - len(self) * self._world_size

    def _of_all_ranks(self, epoch: int) -> Sequence[Sequence[int]]:
        # Packing a million rows takes seconds, and length, tail and iteration all ask for it.
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._batches_of(epoch))
        return self._cached[1]

    def _tell_tail(self, epoch: int) -> None:
        tail = self.tail(epoch)
        if tail and epoch not in self._tails_told and self._rank == 0:
            self._tails_told.add(epoch)
            did = f"leaves out {tail}" if tail > 0 else f"repeats {-tail}"
            logger.info("Epoch %d %s of its %d batches.", epoch, did, len(self._of_all_ranks(epoch)))
