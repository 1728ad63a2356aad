"""Pairs of takes for the stage ``dpo``: which of them can be used, and each by its index.

What a take was drawn after, the phonemes and codes of a spoken prompt, stands before both sequences of a pair: the
log-probabilities that are compared are those of the draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_train.contract import ConfigError, DataError
from tts_train.datasets import TakeSet
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH
from tts_train_gpt_sovits.stages.gpt.batches import FilterOptions, refusal
from tts_train_gpt_sovits.stages.gpt.rows import Pairs, Source, check_alike, read_bert

BACKEND = "gpt_sovits"
_READ = ("text_id", "phonemes", "bert", "prompt", "codes", "ended")
"""What is read of a take each time."""
_USUAL_PAIR = 480
"""Phonemes and codes of a usual pair: 5 seconds each of prompt, chosen and rejected codes, and both texts."""
_PHONEMES, _CODES = 32, 1024


@dataclass(frozen=True, kw_only=True)
class TakeOptions:
    """Which takes make a pair, where ``path`` is a folder that ``tts-train sample`` wrote."""

    margin: float = 0.0
    """Least difference of the rewards of a pair's takes."""
    per_text: int = 1
    """Most pairs of a text: the best take with the worst, then the next best with the next worst."""

    def __post_init__(self) -> None:
        if self.margin < 0 or self.per_text < 1:
            raise ConfigError(
                "--data.takes.margin must be 0 or more and --data.takes.per_text 1 or more; "
                f"{self.margin} and {self.per_text} were given."
            )


@dataclass(frozen=True, kw_only=True)
class TakeSource:
    """The pairs of a set of takes that can be used."""

    prepared: TakeSet
    rows: NDArray[np.int64]
    """Row of each pair's better take."""
    rejected: NDArray[np.int64]
    """Row of the other one."""
    kept: NDArray[np.int64]
    """Codes of the other that are used: all, or of one that was cut off as many as fit into a batch."""
    left_out: Counter[str]
    """Texts without a pair, and pairs that are not used, by reason."""
    lengths: NDArray[np.int64]
    """Phonemes and codes of each pair: the prompt's, the chosen and the rejected ones."""
    codes: NDArray[np.int64]
    """Chosen codes of each."""
    languages: list[str | None]

    @classmethod
    def open(cls, path: str, options: TakeOptions, filter: FilterOptions, *, max_tokens: int) -> TakeSource:
        """Open a folder that ``tts-train sample`` wrote.

        Raises:
            DataError: if it is of another backend, or no pair can be used.
        """
        takes = TakeSet(path, backend=BACKEND, columns=_READ)
        pairs, left_out = takes.pairs(margin=options.margin, per_text=options.per_text)
        sizes = _Sizes.of(takes)
        used: list[tuple[int, int, int]] = []
        for pair in pairs:
            kept, reason = sizes.judge(pair.chosen, pair.rejected, filter, max_tokens)
            if reason is None:
                used.append((pair.chosen, pair.rejected, kept))
            else:
                left_out[reason] += 1
        if not used:
            raise DataError(
                f"{path} has {len(takes)} takes and no pair of them can be used; most often: "
                f"{', '.join(reason for reason, _ in left_out.most_common(3)) or 'there is none'}. See "
                "--data.takes.margin, --data.filter and --data.max_tokens, or draw more takes of a text."
            )
        chosen, rejected, kept = np.array(used, dtype=np.int64).T
        named = takes.column("language")
        return cls(
            prepared=takes,
            rows=chosen,
            rejected=rejected,
            kept=kept,
            left_out=left_out,
            lengths=sizes.before[chosen] + sizes.codes[chosen] + kept,
            codes=sizes.codes[chosen],
            languages=[named[row] for row in chosen.tolist()],
        )

    def divide(self, share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Return (training, validation) as places among the pairs; those of a text are on one side."""
        return self.prepared.divide(self.rows.tolist(), share, seed=seed)

    def check_alike(self, other: Source) -> None:
        """Refuse another set whose numbers mean something else, as a prepared one does."""
        check_alike(self.prepared, other.prepared)

    def utterances(self, places: Sequence[int], *, pairs: Pairs, seed: int) -> TakeRows:
        """Return some pairs as utterances; they are the same whatever ``pairs`` and ``seed``."""
        del pairs, seed
        return TakeRows(self, places)


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Numbers of each take of a set."""

    text: NDArray[np.int64]
    """Phonemes of its text."""
    before: NDArray[np.int64]
    """All phonemes and the prompt's codes."""
    codes: NDArray[np.int64]
    """Codes drawn."""
    ended: list[bool]

    @classmethod
    def of(cls, takes: TakeSet) -> _Sizes:
        phonemes, prompt, codes = (takes.list_lengths(name) for name in ("phonemes", "prompt", "codes"))
        # Null in takes that could not be drawn.
        given = np.array([count or 0 for count in takes.column("prompt_phonemes")], dtype=np.int64)
        ended = [bool(each) for each in takes.column("ended")]
        return cls(text=phonemes - given, before=phonemes + prompt, codes=codes, ended=ended)

    def judge(self, chosen: int, rejected: int, filter: FilterOptions, max_tokens: int) -> tuple[int, str | None]:
        """Return how many codes of a pair's rejected take are used, and why the pair is not."""
        codes = int(self.codes[rejected])
        room = max_tokens - int(self.before[chosen] + self.codes[chosen])
        if reason := refusal(int(self.text[chosen]), int(self.codes[chosen]), filter):
            return 0, reason
        if not codes:
            return 0, "no codes of the rejected take"
        # The beginning of a take that was cut off was drawn as it stands; of one that ended, the end belongs to it.
        kept = codes if self.ended[rejected] else min(codes, room)
        return kept, None if 0 < kept <= room else f"more than --data.max_tokens {max_tokens}"


class TakeRows:
    """Some pairs of a source as utterances.

    Args:
        source: The pairs.
        places: Which of them.
    """

    def __init__(self, source: TakeSource, places: Sequence[int]) -> None:
        where = np.asarray(places, dtype=np.int64)
        self.prepared = source.prepared
        self.rows = source.rows[where]
        self.lengths = source.lengths[where]
        self.codes = source.codes[where]
        self.languages = [source.languages[place] for place in where.tolist()]
        self._rejected = source.rejected[where]
        self._kept = source.kept[where]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, place: int, lap: int) -> GptUtterance:
        """Return a pair, the same in each lap."""
        del lap
        chosen, rejected = (self.prepared.row(int(rows[place])) for rows in (self.rows, self._rejected))
        return GptUtterance(
            phonemes=_numbers(chosen["phonemes"]),
            codes=_numbers(chosen["codes"]),
            bert=read_bert(chosen, self.prepared),
            rejected=_numbers(rejected["codes"])[: int(self._kept[place])],
            cut_off=not rejected["ended"],
            prompt=_numbers(chosen["prompt"]),
            language=self.languages[place],
        )


def sample_takes(tokens: int) -> list[GptUtterance]:
    """Return made-up pairs, ``tokens`` (4 or more) phonemes and codes in all, which part with their first codes."""
    count = max(1, round(tokens / _USUAL_PAIR))
    found = []
    for place in range(count):
        size = tokens // count + (place < tokens % count)
        # A quarter each: the phonemes of two texts, the prompt, and both sequences.
        quarter = max(1, size // 4)
        phonemes, prompt = torch.arange(quarter) % _PHONEMES, torch.arange(quarter) % _CODES
        codes = torch.arange(max(1, size - 3 * quarter)) % _CODES
        rejected = (torch.arange(quarter) + 1) % _CODES
        bert = torch.zeros(quarter, BERT_WIDTH)
        found.append(GptUtterance(phonemes=phonemes, codes=codes, bert=bert, rejected=rejected, prompt=prompt))
    return found


def _numbers(values: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
