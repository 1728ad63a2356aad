"""Utterances of a prepared set for the stages ``sovits`` and ``cfm``: which can be used, and batches of like length.

The batches are the same on every process and in every run.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tts_train.contract import DataError
from tts_train.datasets import PreparedSet, UsableRows
from tts_train_gpt_sovits.preparing.prepared import open_prepared
from tts_train_gpt_sovits.signal.versions import FEATURES, SPEAKER
from tts_train_gpt_sovits.stages.sovits.batch import FRAMES_PER_CODE, HOP, SovitsUtterance

COLUMNS = ("id", "text", "language", "phonemes", "codes", "wave", "speaker_vector", "ssl")
"""What is read of a row; ``speaker_vector`` and ``ssl`` only where they are needed."""
FRAMES_PER_SECOND = 50
_NEEDED = ("phonemes", "codes", "wave")
_MISSING_FRAMES = 4  # speech features may end this many frames before or after the audio


@dataclass(frozen=True)
class SovitsSource(UsableRows):
    """The rows of a prepared set of usable length, and how long each is."""

    frames: NDArray[np.int64]
    """Frames of 20 ms of each."""

    @classmethod
    def open(cls, path: str, least: int, most: int, *, features: bool) -> SovitsSource:
        """Open a set and leave out rows of at most ``least`` frames and above ``most``.

        Args:
            path: Folder that ``tts-train prepare`` wrote, or Parquet files.
            least: Frames that a row must exceed.
            most: Frames of the longest row.
            features: Whether stored speech features are read.

        Raises:
            DataError: if columns are missing or no row is left.
        """
        columns = tuple(name for name in COLUMNS if name != "ssl" or features)
        prepared = open_prepared(path, needed=_NEEDED, columns=columns)
        frames = FRAMES_PER_CODE * prepared.rows.list_lengths("codes")
        # As upstream's buckets, which take what is above their lower border.
        short, long = frames <= least, frames > most
        left_out: Counter[str] = Counter()
        lengths = least / FRAMES_PER_SECOND, most / FRAMES_PER_SECOND
        for which, what in ((short, f"at most {lengths[0]:g} s"), (long, f"above {lengths[1]:g} s")):
            if which.any():
                left_out[what] += int(which.sum())
        rows = np.flatnonzero(~(short | long))
        if not len(rows):
            raise DataError(
                f"None of {len(prepared)} utterances of {path} is longer than {lengths[0]:g} s and at most "
                f"{lengths[1]:g} s long. Slice long recordings and leave out very short ones."
            )
        return cls(prepared, rows, left_out, frames[rows])


class SovitsRows(Dataset[SovitsUtterance]):
    """Utterances by index.

    Args:
        prepared: The set.
        rows: Which of its rows.
        features: Whether stored speech features are read, which a trained quantizer needs.
    """

    def __init__(self, prepared: PreparedSet, rows: NDArray[np.int64], *, features: bool) -> None:
        self.prepared = prepared
        self.rows = rows
        self.features = features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> SovitsUtterance:
        row = self.prepared.row(int(self.rows[index]))
        for name in _NEEDED:
            if row[name] is None or not len(row[name]):
                raise self._odd(row, f"no {name}")
        codes = torch.from_numpy(row["codes"].astype(np.int64))
        frames = min(FRAMES_PER_CODE * len(codes), len(row["wave"]) // HOP)
        if frames < FRAMES_PER_CODE * len(codes) - _MISSING_FRAMES:
            raise self._odd(row, f"{len(codes)} codes for {frames / FRAMES_PER_SECOND:g} s of audio")
        return SovitsUtterance(
            id=str(row.get("id", index)),
            text=str(row.get("text") or ""),
            language=str(row.get("language") or ""),
            codes=codes,
            phonemes=torch.from_numpy(row["phonemes"].astype(np.int64)),
            wave=torch.from_numpy(row["wave"][: frames * HOP].astype(np.int16)),
            speaker=self._list(row, "speaker_vector", SPEAKER),
            features=self._ssl(row, FRAMES_PER_CODE * len(codes)) if self.features else None,
        )

    def _list(self, row: Mapping[str, Any], name: str, width: int) -> Tensor | None:
        values = row.get(name)
        if values is None or not len(values):
            return None
        if len(values) % width:
            raise self._odd(row, f"a {name} of {len(values)} numbers, which is no multiple of {width}")
        return torch.from_numpy(values.astype(np.float32))

    def _ssl(self, row: Mapping[str, Any], frames: int) -> Tensor:
        flat = self._list(row, "ssl", FEATURES)
        if flat is None:
            raise DataError(
                f"{self.prepared.path} holds no speech features for {row.get('id')!r}, which --data.features needs. "
                "Prepare it with --keep_ssl."
            )
        found = flat.view(-1, FEATURES).T
        missing = frames - found.shape[1]
        if missing > _MISSING_FRAMES:
            raise self._odd(row, f"{found.shape[1]} frames of features for {frames // FRAMES_PER_CODE} codes")
        # Upstream repeats the last frame once and leaves larger gaps; up to four are filled here, and beyond that the
        # row is refused.
        return found[:, :frames] if missing <= 0 else torch.cat([found, found[:, -1:].expand(-1, missing)], dim=1)

    def _odd(self, row: Mapping[str, Any], what: str) -> DataError:
        return DataError(f"{self.prepared.path}: {row.get('id')!r} has {what}. Prepare it again.")


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
        # Upstream's seed and its calls in order, so that its figures can be met (module/data_utils.py).
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
        # Filled up rather than cut off: in small sets a bucket's rest is a good part of it.
        filled = [bucket[order[i % len(order)]] for i in range(size)]
        mine = filled[self.rank :: self.num_replicas]
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def _order(self, count: int, generator: torch.Generator) -> list[int]:
        return torch.randperm(count, generator=generator).tolist() if self.shuffle else list(range(count))


def _bucket(boundaries: Sequence[int], length: int) -> int:
    """Return the bucket of a length, -1 for below the first; past the last for above."""
    return bisect_left(boundaries, length) - 1
