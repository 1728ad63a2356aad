"""Which rows the text-to-semantic stage trains on, and in which batches: upstream's rules, and rehearsal.

Rehearsal puts batches of a second prepared set among those of the first, so that other languages are not forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tts_train.contract import ConfigError
from tts_train.datasets import Batches, batches_for, pack, shuffled
from tts_train_gpt_sovits.signal.versions import CODES_PER_SECOND

BUCKET_SECONDS = 2.0


@dataclass(frozen=True)
class FilterOptions:
    """Which rows are kept."""

    max_seconds: float = 54.0
    """Longest speech; the text may have as many phonemes as codes for this time, divided by 2.5."""
    min_phonemes_per_second: float = 3.0
    """Fewer are speech with long pauses or more words than its text."""
    max_phonemes_per_second: float = 25.0
    """More are text that the speech leaves out."""


def refusal(phonemes: int, codes: int, options: FilterOptions = FilterOptions()) -> str | None:
    """Return why a row of so many phonemes and codes is left out, or None if it is kept."""
    most = int(options.max_seconds * CODES_PER_SECOND)
    seconds = codes / CODES_PER_SECOND
    if not codes or not phonemes:
        return "no phonemes" if codes else "no codes"
    if codes > most:
        return f"speech of {seconds:.1f} s is longer than {options.max_seconds:g} s"
    if phonemes > most / 2.5:
        return f"{phonemes} phonemes are more than {most / 2.5:g}"
    rate = phonemes / seconds
    if rate > options.max_phonemes_per_second:
        return f"{rate:.1f} phonemes a second are more than {options.max_phonemes_per_second:g}"
    if rate < options.min_phonemes_per_second:
        return f"{rate:.1f} phonemes a second are fewer than {options.min_phonemes_per_second:g}"
    return None


def repeats(rows: int) -> int:
    """Return how often upstream puts a small set into an epoch: 100 rows or more once, fewer at least twice."""
    # 51 to 99 rows come twice, where 100 // rows alone would say once (AR/data/dataset.py).
    return 1 if rows >= 100 or not rows else max(2, 100 // rows)


def usable_batch_size(batch_size: int, rows: int, *, pairs: bool = False) -> int:
    """Return the batch size that upstream uses: halved for pairs, and never above a quarter of the rows."""
    return max(min(batch_size // 2 if pairs else batch_size, rows // 4), 1)


class UpstreamSampler:
    """The order of rows in an epoch, the same for every run and process.

    Args:
        seconds: Length of each row.
        batch_size: Rows of a batch.
        seed: Added to the epoch.
    """

    def __init__(self, seconds: Sequence[float], batch_size: int, *, seed: int = 0) -> None:
        self.buckets = buckets(seconds)
        self._batch = batch_size
        self._seed = seed

    def indices(self, epoch: int) -> list[int]:
        """Return the rows of an epoch in order."""
        # The figures depend on this very generator.
        draw = random.Random(epoch + self._seed)
        shuffled = [list(bucket) for bucket in self.buckets]
        for bucket in shuffled:
            draw.shuffle(bucket)
        order = list(chain.from_iterable(shuffled))
        grouped = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        draw.shuffle(grouped)
        return list(chain.from_iterable(grouped))

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch: upstream cuts the order anew, so after a short group all of them shift."""
        order = self.indices(epoch)
        return [order[start : start + self._batch] for start in range(0, len(order), self._batch)]


def buckets(seconds: Sequence[float], width: float = BUCKET_SECONDS) -> list[list[int]]:
    """Return the rows by length, shortest first, in buckets about ``width`` seconds wide.

    The threshold rises by one width for each row that passes it, not until it covers the row; after a gap in the
    lengths a bucket is therefore narrower, and may hold one row.
    """
    found: list[list[int]] = []
    current: list[int] = []
    threshold = width
    for row in sorted(range(len(seconds)), key=seconds.__getitem__):
        if seconds[row] >= threshold:
            found.append(current)
            current = []
            threshold += width
        current.append(row)
    return [*found, current] if current else found


_LAP = 1_000_003
_TURNS = 7_919


@dataclass(frozen=True)
class RehearsalOptions:
    """A second prepared set, such as a few hours in the languages that the voice shall keep."""

    path: str | None = None
    """Folder that ``tts-train prepare`` wrote, by the same version as ``--data.path``; none for no rehearsal."""
    share: float = 0.2
    """Share of the batches that come from it, above 0 and below 1."""
    val_share: float = 0.05
    """Share of its utterances kept for validation; they count in the figures by language alone."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"--data.rehearsal.share must be above 0 and below 1, and {self.share} was given.")


def mix(
    own: Batches,
    lengths: NDArray[np.int64],
    share: float,
    *,
    offset: int,
    max_tokens: int,
    seed: int,
    epoch: int,
) -> Batches:
    """Put rehearsal batches among an epoch's own, in shuffled order, as many in every epoch.

    The epochs go through the second set one after another: each takes up where the one before left off, and no row
    comes again before all have come.

    Args:
        own: The epoch's own batches.
        lengths: Tokens of each rehearsal row.
        share: Share of the batches that are rehearsal.
        offset: Index of the first rehearsal row.
        max_tokens: Budget of a batch.
        seed: One seed, one sequence of epochs.
        epoch: From 0.
    """
    # A share of all batches, not of the set's own.
    count = max(1, round(len(own) * share / (1 - share)))
    in_a_lap = batches_for(lengths, max_tokens, seed=seed + _LAP)
    batches = list(own)
    laps: dict[int, Batches] = {}
    for number in range(epoch * count, (epoch + 1) * count):
        lap, place = divmod(number, in_a_lap)
        if lap not in laps:
            laps[lap] = pack(lengths, max_tokens, seed=seed + _LAP, epoch=lap, batches=in_a_lap)
        batches.append([offset + row for row in laps[lap][place]])
    # By chance rather than at even distances, which could fall in with those at which figures are logged.
    return [batches[place] for place in shuffled(len(batches), seed=seed + _TURNS, epoch=epoch).tolist()]
