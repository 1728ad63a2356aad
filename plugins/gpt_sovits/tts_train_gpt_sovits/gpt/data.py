"""The data module of the stages ``gpt`` and ``dpo``; each argument is a flag below ``--data``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tts_train.data import plan
from tts_train.data.module import PlannedDataModule
from tts_train.data.plan import Plan
from tts_train.data.shards import PreparedSet
from tts_train.data.split import split
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.gpt.batches import CODES_PER_SECOND, FilterOptions, UpstreamSampler, refusal, repeats
from tts_train_gpt_sovits.gpt.dpo import corrupt, draw_corruption
from tts_train_gpt_sovits.gpt.packing import BERT_WIDTH, PackedBatch, Utterance, pack

COLUMNS = ("id", "phonemes", "codes", "bert", "rejected")
"""What a row must have, ``bert`` (float16, 1,024 a phoneme, row by row) and ``rejected`` (codes) only where known."""

Pairs = Literal["none", "made", "stored"]
"""``made`` corrupts each utterance's codes anew every epoch; ``stored`` takes the column ``rejected``."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rows:
    prepared: PreparedSet
    rows: NDArray[np.int64]
    phonemes: NDArray[np.int64]
    codes: NDArray[np.int64]
    left_out: Counter[str]

    @classmethod
    def open(cls, path: str, options: FilterOptions) -> _Rows:
        prepared = PreparedSet(path, length_of="codes", columns=COLUMNS)
        phonemes, codes = (prepared.rows.list_lengths(name) for name in ("phonemes", "codes"))
        reasons = [refusal(int(x), int(y), options) for x, y in zip(phonemes, codes, strict=True)]
        kept = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
        left_out = Counter(reason for reason in reasons if reason is not None)
        if not len(kept):
            raise DataError(
                f"{path} has {len(prepared)} utterances and none can be used; most often: "
                f"{', '.join(reason for reason, _ in left_out.most_common(3)) or 'it is empty'}. See --data.filter."
            )
        return cls(prepared, kept, phonemes, codes, left_out)

    def take(self, places: Sequence[int], *, pairs: Pairs, seed: int) -> GptRows:
        rows = self.rows[np.asarray(places, dtype=np.int64)]
        return GptRows(self.prepared, rows, self.phonemes[rows] + self.codes[rows], pairs=pairs, seed=seed)


class GptRows(Dataset[Utterance]):
    """Utterances by index; index ``row + n * len`` is the row in its n-th lap, with a corruption of its own."""

    def __init__(
        self, prepared: PreparedSet, rows: NDArray[np.int64], lengths: NDArray[np.int64], *, pairs: Pairs, seed: int
    ) -> None:
        self.prepared = prepared
        self.rows = rows
        self.lengths = lengths
        self.pairs = pairs
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Utterance:
        lap, place = divmod(index, len(self.rows))
        number = int(self.rows[place])
        row = self.prepared.row(number)
        codes = torch.from_numpy(row["codes"].astype(np.int64))
        return Utterance(
            phonemes=torch.from_numpy(row["phonemes"].astype(np.int64)),
            codes=codes,
            bert=_bert(row, self.prepared),
            rejected=self._rejected(row, codes, number, lap),
        )

    def _rejected(self, row: Mapping[str, Any], codes: torch.Tensor, number: int, lap: int) -> torch.Tensor | None:
        if self.pairs == "none":
            return None
        if self.pairs == "made":
            words = np.random.SeedSequence([abs(self.seed), lap, number]).generate_state(2)
            chance = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
            return corrupt(codes, draw_corruption(len(codes), chance))
        if row.get("rejected") is None:
            raise DataError(
                f"{self.prepared.path} has no rejected codes for {row.get('id', number)!r}. Use --data.pairs made."
            )
        return torch.from_numpy(row["rejected"].astype(np.int64))


class GptData(PlannedDataModule):
    """Batches of phonemes and semantic codes.

    Args:
        path: Folder that ``tts-train prepare`` wrote, or Parquet files with ``phonemes`` and ``codes``.
        max_tokens: Most phonemes and codes in a batch together.
        batching: ``packed`` fills batches up to ``max_tokens``; ``upstream`` draws ``batch_size`` utterances of like
            length in upstream's order, small sets several times an epoch.
        batch_size: Utterances of an upstream batch.
        pairs: Rejected codes for DPO: ``none``, ``made`` by saying a part twice or leaving it out, or ``stored``.
        filter: Which utterances are used.
        val_share: Share of utterances kept for validation, chosen by their ids and for each speaker; 0 for none.
        val_path: Validation set of its own, in the same form as ``path``; then nothing is taken from ``path``.
        seed: Seed of the order, of the choice for validation and of corruptions.
        num_workers: Processes that read ahead; 0 reads in this process.
    """

    def __init__(
        self,
        path: str,
        max_tokens: int = 2048,
        batching: Literal["packed", "upstream"] = "packed",
        batch_size: int = 8,
        pairs: Pairs = "none",
        filter: FilterOptions = FilterOptions(),  # noqa: B008 - frozen
        val_share: float = 0.05,
        val_path: str | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        if max_tokens < 1 or batch_size < 1:
            raise ConfigError("--data.max_tokens and --data.batch_size must be 1 or more.")
        self.path = path
        self.max_tokens = max_tokens
        self.batching = batching
        self.batch_size = batch_size
        self.pairs: Pairs = pairs
        self.filter = filter
        self.val_share = val_share
        self.val_path = val_path
        self._train: GptRows | None = None
        self._held: GptRows | None = None
        self._about: dict[str, object] = {}

    def setup(self, stage: str) -> None:
        """Open the data once, divide them, and say what is used and what is left out, before any step."""
        if self._train is not None:
            return
        rows = _Rows.open(self.path, self.filter)
        ids, speakers = ([of[row] for row in rows.rows.tolist()] for of in (rows.prepared.ids, rows.prepared.speakers))
        train, held = split(ids, 0.0 if self.val_path else self.val_share, speakers=speakers, seed=self.seed)
        self._train = self._fitting(rows.take(train, pairs=self.pairs, seed=self.seed), rows)
        other = _Rows.open(self.val_path, self.filter) if self.val_path else rows
        places = range(len(other.rows)) if self.val_path else held
        self._held = self._fitting(other.take(places, pairs=self.pairs, seed=self.seed), other) if places else None
        self.train_set, self.val_set = self._train, self._held
        self._about = {
            "hash": rows.prepared.hash,
            "rows": len(rows.prepared),
            "left_out": dict(rows.left_out),
            "train_rows": len(self._train),
            "val_rows": len(self._held) if self._held is not None else 0,
            "train_tokens": int(self._train.lengths.sum()),
        }
        self._say()

    def train_plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch; corruptions of pairs differ from epoch to epoch."""
        assert self._train is not None
        count, lengths = len(self._train), self._train.lengths
        if self.batching == "packed":
            batches = plan.batches_for(lengths, self.max_tokens, seed=self.seed)
            drawn = plan.pack(lengths, self.max_tokens, seed=self.seed, epoch=epoch, batches=batches)
            return [[row + epoch * count for row in batch] for batch in drawn]
        laps = repeats(count)
        codes = np.tile(lengths, laps) / CODES_PER_SECOND
        sampler = UpstreamSampler(codes.tolist(), self.batch_size, seed=self.seed)
        return [[row + epoch * laps * count for row in batch] for batch in sampler.batches(epoch)]

    def val_plan(self) -> Plan:
        """Return the validation batches, the same every time."""
        return plan.in_order(self._held.lengths, self.max_tokens) if self._held is not None else []

    def collate(self, rows: list[Utterance]) -> PackedBatch:
        """Join utterances to a batch."""
        return pack(rows)

    def describe(self) -> Mapping[str, object]:
        """Return hash, rows and tokens, for the run's record."""
        return {**self._about, "batches_per_epoch": len(self.train_plan(0))}

    def _fitting(self, rows: GptRows, of: _Rows) -> GptRows:
        """Leave out what is longer than a packed batch.

        Raises:
            DataError: if that leaves nothing.
        """
        fits = rows.lengths <= self.max_tokens
        if not fits.all():
            of.left_out[f"more than --data.max_tokens {self.max_tokens}"] += int((~fits).sum())
        if not fits.any():
            raise DataError(
                f"No utterance of {of.prepared.path} fits --data.max_tokens {self.max_tokens}; the shortest has "
                f"{int(rows.lengths.min())} phonemes and codes."
            )
        return GptRows(rows.prepared, rows.rows[fits], rows.lengths[fits], pairs=rows.pairs, seed=rows.seed)

    def _say(self) -> None:
        about = self.describe()
        _log.info(
            "%s utterances for training, %s for validation, %s batches an epoch; left out: %s.",
            about["train_rows"],
            about["val_rows"],
            about["batches_per_epoch"],
            about["left_out"] or "none",
        )
        if self._held is None:
            _log.warning("No utterance is kept for validation, so nothing will show when the voice over-fits.")


def _bert(row: Mapping[str, Any], prepared: PreparedSet) -> torch.Tensor | None:
    """Return the features of a row, or None where it has none.

    Raises:
        DataError: if they are not those of its phonemes.
    """
    flat = row.get("bert")
    if flat is None or not len(flat):
        return None
    if len(flat) != len(row["phonemes"]) * BERT_WIDTH:
        raise DataError(
            f"{prepared.path}: {row.get('id')!r} has {len(row['phonemes'])} phonemes and {len(flat) / BERT_WIDTH:g} "
            "BERT features. Prepare it again."
        )
    return torch.from_numpy(np.array(flat)).view(-1, BERT_WIDTH)
