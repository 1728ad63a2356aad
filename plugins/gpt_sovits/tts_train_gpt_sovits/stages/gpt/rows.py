"""Utterances of a prepared set for the stages ``gpt`` and ``dpo``: which can be used, and each by its index."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tts_train.contract import DataError
from tts_train.datasets import Corruption, PreparedSet, TakeSet, UsableRows
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance
from tts_train_gpt_sovits.preparing.prepared import open_prepared
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH
from tts_train_gpt_sovits.stages.gpt.batches import FilterOptions, refusal

COLUMNS = ("id", "phonemes", "codes", "bert", "rejected")
"""What is read of a row; ``bert`` (float16, 1,024 a phoneme, row by row) and ``rejected`` (codes) only where known."""

Pairs: TypeAlias = Literal["none", "made", "stored"]
"""``made`` corrupts each utterance's codes anew every epoch; ``stored`` takes the column ``rejected``."""

_USUAL = 160
"""Phonemes and codes of a usual clip, of 5 seconds."""
_FEWEST_PHONEMES = 32
_CODES = 1024


class Rows(Protocol):
    """Some utterances of a set by place."""

    @property
    def prepared(self) -> PreparedSet | TakeSet:
        """The set."""

    rows: NDArray[np.int64]
    """Row of each in the set; of a pair of takes that of the better one."""
    lengths: NDArray[np.int64]
    """Phonemes and codes of each, as a batch counts them."""
    codes: NDArray[np.int64]
    """Codes of each; of a pair the chosen ones."""
    languages: list[str | None]

    def __len__(self) -> int:
        """How many."""

    def read(self, place: int, lap: int) -> GptUtterance:
        """Return an utterance."""


class UtteranceSource(Protocol):
    """What of a set can be used."""

    @property
    def prepared(self) -> PreparedSet | TakeSet:
        """The set."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Phonemes and codes of each utterance, as a batch counts them."""

    @property
    def left_out(self) -> Counter[str]:
        """What cannot, by reason."""

    def divide(self, share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Return (training, validation) as places among the utterances."""

    def check_alike(self, other: UtteranceSource) -> None:
        """Refuse another set whose numbers mean something else."""

    def utterances(self, places: Sequence[int], *, pairs: Pairs, seed: int) -> Rows:
        """Return some of the utterances."""


@dataclass(frozen=True)
class GptSource(UsableRows):
    """The rows of a prepared set that can be used, and how long each is."""

    lengths: NDArray[np.int64]
    """Phonemes and codes of each."""
    codes: NDArray[np.int64]
    """Codes of each."""
    languages: list[str | None]
    """The language of each, None where the set does not say."""

    @classmethod
    def open(cls, path: str, options: FilterOptions, *, max_tokens: int) -> GptSource:
        """Open a prepared folder, or Parquet files with ``phonemes`` and ``codes``.

        Raises:
            DataError: if there is nothing to read, or nothing that can be used.
        """
        prepared = open_prepared(path, needed=("phonemes", "codes"), columns=COLUMNS)
        phonemes, codes = (prepared.rows.list_lengths(name) for name in ("phonemes", "codes"))
        reasons = [
            refusal(x, y, options) or (f"more than --data.max_tokens {max_tokens}" if x + y > max_tokens else None)
            for x, y in zip(map(int, phonemes), map(int, codes), strict=True)
        ]
        rows = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
        left_out = Counter(reason for reason in reasons if reason is not None)
        if not len(rows):
            raise DataError(
                f"{path} has {len(prepared)} utterances and none can be used; most often: "
                f"{', '.join(reason for reason, _ in left_out.most_common(3)) or 'it is empty'}. See --data.filter "
                "and --data.max_tokens."
            )
        known = "language" in prepared.rows.names
        named = prepared.rows.column("language").to_pylist() if known else [None] * len(prepared)
        languages = [None if named[row] is None else str(named[row]) for row in rows.tolist()]
        return cls(prepared, rows, left_out, (phonemes + codes)[rows], codes[rows], languages)

    def check_alike(self, other: UtteranceSource) -> None:
        """Refuse another set whose numbers mean something else.

        Raises:
            DataError: if it was prepared for another version or with another quantizer.
        """
        check_alike(self.prepared, other.prepared)

    def utterances(self, places: Sequence[int], *, pairs: Pairs, seed: int) -> GptRows:
        """Return some of the rows as utterances, with rejected codes as ``pairs`` says."""
        return GptRows(self, places, pairs=pairs, seed=seed)


def check_alike(ours: PreparedSet | TakeSet, theirs: PreparedSet | TakeSet) -> None:
    """Refuse sets whose numbers mean different things.

    Raises:
        DataError: if they are of two versions or quantizers.
    """
    for name in ("version", "quantizer"):
        one, other = (of.settings.get(name) for of in (ours, theirs))
        if one and other and one != other:
            raise DataError(
                f"{theirs.path} was prepared with {name} {other}, and {ours.path} with {one}: the same numbers mean "
                "different sounds. Prepare both alike."
            )


class GptRows:
    """Some rows of a source as utterances.

    Args:
        source: The set.
        places: Which of its usable rows.
        pairs: Where rejected codes come from.
        seed: Seed of made ones.
        rehearsed: Whether they are rehearsal, which the figures of the set proper leave out.
    """

    def __init__(
        self,
        source: GptSource,
        places: Sequence[int],
        *,
        pairs: Pairs = "none",
        seed: int = 0,
        rehearsed: bool = False,
    ) -> None:
        chosen = np.asarray(places, dtype=np.int64)
        self.prepared = source.prepared
        self.rows = source.rows[chosen]
        self.lengths = source.lengths[chosen]
        self.codes = source.codes[chosen]
        self.languages = [source.languages[place] for place in chosen.tolist()]
        self.pairs = pairs
        self.seed = seed
        self.rehearsed = rehearsed

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, place: int, lap: int) -> GptUtterance:
        """Return an utterance; in each lap it has a made corruption of its own."""
        number = int(self.rows[place])
        row = self.prepared.row(number)
        codes = torch.from_numpy(row["codes"].astype(np.int64))
        return GptUtterance(
            phonemes=torch.from_numpy(row["phonemes"].astype(np.int64)),
            codes=codes,
            bert=read_bert(row, self.prepared),
            rejected=self._rejected(row, codes, number, lap),
            language=self.languages[place],
            rehearsed=self.rehearsed,
        )

    def _rejected(self, row: Mapping[str, Any], codes: Tensor, number: int, lap: int) -> Tensor | None:
        if self.pairs == "none":
            return None
        if self.pairs == "made":
            return Corruption.at(len(codes), seed=self.seed, lap=lap, row=number).of(codes)
        if row.get("rejected") is None:
            raise DataError(
                f"{self.prepared.path} has no rejected codes for {row.get('id', number)!r}. Use --data.pairs made."
            )
        return torch.from_numpy(row["rejected"].astype(np.int64))


class Laps(Dataset[GptUtterance]):
    """Utterances of several parts by index; index ``row + n * len`` is the row in its n-th lap."""

    def __init__(self, *parts: Rows) -> None:
        self.parts = parts
        self._starts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> GptUtterance:
        lap, row = divmod(index, len(self))
        part = bisect_right(self._starts, row) - 1
        return self.parts[part].read(row - self._starts[part], lap)


def sample_utterances(tokens: int, *, pairs: bool) -> list[GptUtterance]:
    """Return made-up utterances, a quarter of their tokens phonemes, ``tokens`` (2 or more) in all.

    Rejected codes say a third twice or leave it out, in turns, so that they differ in half as made ones do on average.
    """
    # Utterances of usual length: attention's share in memory depends on how long they are, not on their sum alone.
    count = max(1, round(tokens / _USUAL))
    sizes = [tokens // count + (place < tokens % count) for place in range(count)]
    found = []
    for place, size in enumerate(sizes):
        phonemes = torch.arange(max(1, size // 4)) % _FEWEST_PHONEMES
        codes = torch.arange(max(1, size - len(phonemes))) % _CODES
        kind: Literal["lost", "repeat"] = "repeat" if place % 2 == 0 else "lost"
        rejected = Corruption(kind, len(codes) // 3, 2 * len(codes) // 3).of(codes) if pairs else None
        bert = torch.zeros(len(phonemes), BERT_WIDTH)
        found.append(GptUtterance(phonemes=phonemes, codes=codes, bert=bert, rejected=rejected))
    return found


def read_bert(row: Mapping[str, Any], prepared: PreparedSet | TakeSet) -> Tensor | None:
    """Return the features of a row, or None where it has none.

    Raises:
        DataError: if they are not those of its phonemes.
    """
    flat = row.get("bert")
    if flat is None or not len(flat):
        return None
    if len(flat) != len(row["phonemes"]) * BERT_WIDTH:
        name = row.get("id", row.get("text_id"))
        raise DataError(
            f"{prepared.path}: {name!r} has {len(row['phonemes'])} phonemes and {len(flat) / BERT_WIDTH:g} BERT "
            "features. Make it again."
        )
    # A copy: what the file's memory map gives cannot be written to, of which torch warns.
    return torch.from_numpy(np.array(flat)).view(-1, BERT_WIDTH)
