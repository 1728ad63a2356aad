"""The data module of pairs; each argument is a flag below ``--data``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tts_train.contract.data import AUTO, StageData
from tts_train.datasets.batches import Batches, batches_for, fill_share, in_order, pack
from tts_train.datasets.takes import TOO_ALIKE
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.data.data import refuse_others
from tts_train.families.token_lm.preference.batch import IdPair, PairBatch, pair_batch
from tts_train.families.token_lm.preference.pair_set import AGAIN, HeldPairs, PairRow, PairSet, UsablePairs
from tts_train.families.token_lm.preference.sources import PairSource, open_pairs
from tts_train.families.token_lm.speaking.sources import known_of

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM

_log = logging.getLogger(__name__)

UNKNOWN = 4096
"""What stands for ``max_tokens`` while a plan looks for it."""


class NumberedPairs(PairBatch):
    """A batch of pairs, and which of their set they are."""

    rows: Tensor
    """(P,) int64, the number of each pair among those of its set."""


class PairData(StageData):
    """Batches of pairs of takes; a backend's subclass sets :attr:`token_lm`.

    Args:
        path: Folder that ``tts-train sample`` wrote; or Parquet files with ``prompt_ids``, ``chosen_ids`` and
            ``rejected_ids``; or a folder that ``tts-train prepare`` wrote, whose recordings are then preferred to
            themselves with a part said twice or left out.
        max_tokens: Most positions in a batch, and in one pair, which counts both takes and their prompt once; ``auto``
            takes what fits the card. A worse take that is too long is cut at a frame; a pair whose better take is too
            long is left out.
        margin: Of takes: least difference of the rewards of both.
        per_text: Of takes: most pairs of a text.
        val_share: Share of the texts kept for validation, chosen by their ids and for each speaker; 0 for none.
        val_path: Validation pairs of their own, in any form of ``path``; then nothing is taken from ``path``.
        seed: Seed of the order of the pairs, of faults that are made, and of the choice for validation.
        num_workers: Processes that read ahead; 0 reads in this process.
    """

    token_lm: ClassVar[TokenLM]
    """The model that the pairs are of."""

    def __init__(
        self,
        path: str,
        max_tokens: int | Literal["auto"] = 4096,
        margin: float = 0.5,
        per_text: int = 1,
        val_share: float = 0.05,
        val_path: str | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        self.path = path
        self.max_tokens = UNKNOWN if max_tokens == AUTO else int(max_tokens)
        if self.max_tokens < 1 or per_text < 1 or margin < 0:
            raise ConfigError(
                "--data.max_tokens and --data.per_text must be 1 or more and --data.margin 0 or more; "
                f"{max_tokens}, {per_text} and {margin:g} were given."
            )
        self.margin, self.per_text = margin, per_text
        self.val_share, self.val_path = val_share, val_path
        self.max_length = self.max_tokens
        """Longest sequence; until the pairs are open, the longest there may be."""
        self._source: PairSource | None = None
        self._train: PairSet | None = None
        self._held: PairSet | None = None
        self._hashes: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Open the pairs once, divide them, and say what is used and what is left out, before any step.

        Raises:
            DataError: if there are none.
        """
        # Lightning calls this for fit and again for validation; the second call would read and say everything anew.
        if self._source is not None:
            return
        source, usable = self._open(self.path)
        train, held = usable.divide(0.0 if self.val_path else self.val_share, seed=self.seed)
        self._train = usable.take(train)
        self._held = usable.take(held) if held else None
        if self.val_path:
            other, rows = self._open(self.val_path)
            refuse_others(source, other)
            self._held = rows.take(range(len(rows.places)))
            # Recorded, so that a run that continues can say which of its data have changed.
            self._hashes["val_path"] = other.hash
        self._source = source
        self.train_set, self.val_set = self._train, self._held
        self.max_length = max(part.longest for part in (self._train, self._held) if part is not None)
        self._say()

    @property
    def fixed(self) -> bool:
        """Whether all pairs are the same in every epoch."""
        return all(part.source.fixed for part in self.parts.values())

    @property
    def parts(self) -> Mapping[str, PairSet]:
        """The pairs of training and of validation, there after ``setup``."""
        assert self._train is not None
        return {"train": self._train} | ({} if self._held is None else {"val": self._held})

    def train_batches(self, epoch: int) -> Batches:
        """Return the batches of an epoch; all epochs have the same number of them."""
        assert self._train is not None
        pairs = self._train
        packed = pack(pairs.lengths, self.max_tokens, seed=self.seed, epoch=epoch, batches=self._batch_count)
        # Pairs that are made differ from epoch to epoch, and so does their index.
        shift = 0 if pairs.source.fixed else epoch * len(pairs)
        return [[row + shift for row in batch] for batch in packed]

    def val_batches(self) -> Batches:
        """Return the validation batches, the same every time."""
        return [] if self._held is None else in_order(self._held.lengths, self.max_tokens)

    def rows_in(self, epoch: int, batch: int) -> list[int]:
        """Return the pairs of a batch, to name them when a step fails."""
        assert self._train is not None
        return [row % len(self._train) for row in super().rows_in(epoch, batch)]

    def collate(self, rows: list[PairRow]) -> NumberedPairs:
        """Join pairs to a batch."""
        numbers = torch.tensor([row.row for row in rows])
        return NumberedPairs(**pair_batch([row.pair for row in rows], self.token_lm.layout), rows=numbers)

    def sample_batch(self, size: int) -> NumberedPairs:
        """Return made-up pairs of usual length, ``size`` positions in all, or one pair as long as that."""
        usual = 2 * self.token_lm.utterance_tokens - self.token_lm.prompt_tokens + AGAIN
        whole, rest = divmod(size, usual)
        sizes = [usual] * whole or [size]
        # What is left over makes the last one longer: a batch as full as one can be.
        sizes[-1] += rest if whole else 0
        return self.collate([PairRow(self._made_up(each), 0) for each in sizes])

    def describe(self) -> Mapping[str, object]:
        """Return hash, pairs, positions and how full batches are, for the run's record."""
        assert self._source is not None
        assert self._train is not None
        batches = self.train_batches(0)
        lengths = self._train.lengths
        return {
            "hash": self._source.hash,
            "hashes": self._hashes,
            "pairs": self._source.says,
            "rows": len(self._source),
            "left_out": dict(self._source.left_out),
            "train_rows": len(self._train),
            "val_rows": 0 if self._held is None else len(self._held),
            "train_tokens": int(lengths.sum()),
            "batches_per_epoch": len(batches),
            "fill": round(fill_share(lengths, batches, self.max_tokens), 4),
            "max_length": self.max_length,
        }

    def remember(self) -> Mapping[str, object]:
        """Return how the ids were made: as the pairs say, else as the model that is trained remembers it."""
        return self._facts

    def held_out(self) -> HeldPairs | None:
        """Return the texts of the held-out pairs, which are spoken while a run trains."""
        return None if self._held is None else HeldPairs(self._held, self._facts)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        assert self._source is not None
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        # A file of pairs says nothing of how its ids were made; the model that learns from them must know it.
        return self._source.facts or (known_of(self.token_lm, Path(module.init_from).expanduser()) if module else {})

    @cached_property
    def _batch_count(self) -> int:
        assert self._train is not None
        # One number for all epochs, as a trainer counts an epoch's batches once.
        return batches_for(self._train.lengths, self.max_tokens, seed=self.seed)

    def _open(self, path: str) -> tuple[PairSource, UsablePairs]:
        options: dict[str, Any] = {"margin": self.margin, "per_text": self.per_text}
        source = open_pairs(self.token_lm, Path(path), **options, max_tokens=self.max_tokens, seed=self.seed)
        usable = UsablePairs.of(source, max_tokens=self.max_tokens)
        # Counted apart from faults: these are sound, and a larger batch takes them.
        if usable.too_long:
            source.left_out["too_long"] += usable.too_long
        _log.info("%s: %s.", path, source.says)
        for reason, count in source.left_out.items():
            named = source.examples.get(reason)
            _log.warning("%s: %d left out: %s%s.", path, count, reason, f" ({named})" if named else "")
        if usable.cut:
            _log.info("%s: the worse take of %d pairs is longer than fits and is cut at a frame.", path, usable.cut)
        if not len(usable.places):
            raise DataError(_nothing(path, source, self.max_tokens))
        return source, usable

    def _made_up(self, size: int) -> IdPair:
        """Return a pair of ``size`` positions with ids where data have them."""
        layout, prompt = self.token_lm.layout, self.token_lm.prompt_tokens
        frames = max((size - prompt - AGAIN) // (2 * layout.frame_positions), 1)
        audio = np.arange(frames * layout.slots)
        ids = layout.audio_base + layout.codebook_size * (audio % layout.slots)
        # The rest of what fits goes to the worse one, frame by frame.
        more = max(size - prompt - AGAIN - 2 * frames * layout.frame_positions, 0) // layout.frame_positions
        # Another code everywhere, as two takes have.
        worse = np.concatenate([ids, ids[: more * layout.slots]]) + 1
        return IdPair("planned", np.arange(prompt), ids, worse, len(ids) * 2 / layout.tokens_per_second)

    def _say(self) -> None:
        about = self.describe()
        counts = (about["train_rows"], about["val_rows"], about["batches_per_epoch"])
        _log.info("%d pairs for training, %d for validation; %d batches an epoch.", *counts)
        if self._held is None:
            _log.warning("No pair is kept for validation, so nothing will show when preferences over-fit.")


def _nothing(path: str, source: PairSource, max_tokens: int) -> str:
    why = "; ".join(f"{count} left out: {reason}" for reason, count in source.left_out.most_common(3))
    if not len(source):
        advice = "Give others; for takes, the table of tts-train sample and its takes.html say what is wrong with them."
        # Where no take of a text can be preferred, neither more pairs nor a smaller margin help.
        if source.left_out[TOO_ALIKE]:
            advice = "Draw more takes of each text (tts-train sample --n), or give a smaller --data.margin."
        return f"{path} gives no pair ({why or 'it is empty'}). {advice}"
    need = int(source.sizes.sum(axis=1).max()) + AGAIN
    return f"No pair of {path} is short enough for --data.max_tokens {max_tokens}: raise it; {need} takes them all."
