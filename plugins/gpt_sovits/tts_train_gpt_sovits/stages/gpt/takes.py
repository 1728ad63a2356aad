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

from tts_train.contract import DataError
from tts_train.datasets import TakeSet
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH
from tts_train_gpt_sovits.stages.gpt.batches import FilterOptions, refusal
from tts_train_gpt_sovits.stages.gpt.rows import Pairs, UtteranceSource, check_alike, read_bert

BACKEND = "gpt_sovits"
_READ = ("text_id", "phonemes", "bert", "prompt", "codes")
"""What is read of a take each time."""
_USUAL_PAIR = 480
"""Phonemes and codes of a usual pair: 5 seconds each of prompt, chosen and rejected codes, and both texts."""
_PHONEMES, _CODES = 32, 1024


@dataclass(frozen=True, kw_only=True)
class TakeSource:
    """The pairs of a set of takes that can be used."""

    prepared: TakeSet
    rows: NDArray[np.int64]
    """Row of each pair's better take."""
    rejected: NDArray[np.int64]
    """Row of the other one."""
    kept: NDArray[np.int64]
    """Codes of the other one that are used: all, or as many as fit into a batch."""
    cut_off: NDArray[np.bool_]
    """Whether they lack an end, being cut here or when they were drawn."""
    left_out: Counter[str]
    """Texts without a pair, and pairs that are not used, by reason."""
    lengths: NDArray[np.int64]
    """Phonemes and codes of each pair: the prompt's, the chosen and the rejected ones."""
    codes: NDArray[np.int64]
    """Chosen codes of each."""
    languages: list[str | None]

    @classmethod
    def open(cls, path: str, filter: FilterOptions, *, margin: float, per_text: int, max_tokens: int) -> TakeSource:
        """Open a folder that ``tts-train sample`` wrote.

        Args:
            path: The folder.
            filter: Which chosen takes are used.
            margin: Least difference of the rewards of a pair.
            per_text: Most pairs of a text.
            max_tokens: Most phonemes and codes of a pair; a rejected take that is too long is cut.

        Raises:
            DataError: if it is of another backend, or no pair can be used.
        """
        takes = TakeSet(path, backend=BACKEND, columns=_READ)
        if missing := [name for name in (*_READ, "prompt_phonemes") if name not in takes.names]:
            raise DataError(f"The takes in {path} have no column {', '.join(missing)}: draw them again.")
        pairs, left_out = takes.pairs(margin=margin, per_text=per_text)
        sizes = _Sizes.of(takes)
        reasons = [sizes.refusal(pair.chosen, pair.rejected, filter, max_tokens) for pair in pairs]
        left_out.update(reason for reason in reasons if reason is not None)
        used = [(pair.chosen, pair.rejected) for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
        if not used:
            raise DataError(
                f"{path} has {len(takes)} takes and no pair of them can be used; most often: "
                f"{', '.join(reason for reason, _ in left_out.most_common(3)) or 'there is none'}. Draw more takes of "
                "each text (tts-train sample --n), or see --data.margin, --data.filter and --data.max_tokens."
            )
        chosen, rejected = np.array(used, dtype=np.int64).T
        # The prompt is the same for both, so it counts once, as it is computed once.
        whole = sizes.before[chosen] + sizes.codes[chosen]
        kept = np.minimum(sizes.codes[rejected], max_tokens - whole)
        named = takes.column("language")
        return cls(
            prepared=takes,
            rows=chosen,
            rejected=rejected,
            kept=kept,
            cut_off=(kept < sizes.codes[rejected]) | ~sizes.ended[rejected],
            left_out=left_out,
            lengths=whole + kept,
            codes=sizes.codes[chosen],
            languages=[named[row] for row in chosen.tolist()],
        )

    def divide(self, share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Return (training, validation) as places among the pairs; those of a text are on one side."""
        return self.prepared.divide(self.rows.tolist(), share, seed=seed)

    def check_alike(self, other: UtteranceSource) -> None:
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
    ended: NDArray[np.bool_]

    @classmethod
    def of(cls, takes: TakeSet) -> _Sizes:
        phonemes, prompt, codes = (takes.list_lengths(name) for name in ("phonemes", "prompt", "codes"))
        # Null in takes that could not be drawn.
        given = np.array([count or 0 for count in takes.column("prompt_phonemes")], dtype=np.int64)
        ended = np.array([bool(each) for each in takes.column("ended")])
        return cls(text=phonemes - given, before=phonemes + prompt, codes=codes, ended=ended)

    def refusal(self, chosen: int, rejected: int, filter: FilterOptions, max_tokens: int) -> str | None:
        """Return why a pair is left out, or None if it is used."""
        # A sequence without codes would be preferred against its end alone.
        if not self.codes[rejected]:
            return "no codes of the rejected take"
        # The rejected one may be cut, the chosen one not: its end is what is learnt.
        if self.before[chosen] + self.codes[chosen] >= max_tokens:
            return f"more than --data.max_tokens {max_tokens}"
        return refusal(int(self.text[chosen]), int(self.codes[chosen]), filter)


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
        self._cut_off = source.cut_off[where]

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
            # An end that was never drawn must not become unlikely: the network would learn to go on and on.
            cut_off=bool(self._cut_off[place]),
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
        # Sampled takes part within a few codes, so nothing of them is computed once for both.
        rejected = (torch.arange(quarter) + 1) % _CODES
        bert = torch.zeros(quarter, BERT_WIDTH)
        found.append(GptUtterance(phonemes=phonemes, codes=codes, bert=bert, rejected=rejected, prompt=prompt))
    return found


def _numbers(values: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
