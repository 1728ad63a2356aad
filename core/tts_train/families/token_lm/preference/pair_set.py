"""Some pairs of a source as a data set: none longer than a batch takes, each by its index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tts_train.datasets.split import split
from tts_train.datasets.store.foreign import hash_of_arrays
from tts_train.families.token_lm.data.held_out import HeldRow
from tts_train.families.token_lm.preference.batch import IdPair
from tts_train.families.token_lm.preference.check import cut_at_frame
from tts_train.families.token_lm.preference.sources import PairSource

AGAIN = 1
"""Positions that a pair takes besides its ids: the last one of the prompt is computed for both answers."""


@dataclass(frozen=True)
class PairRow:
    """A pair as it goes into a batch."""

    pair: IdPair
    row: int
    """Its number among the pairs of its set."""


@dataclass(frozen=True)
class UsablePairs:
    """Which pairs of a source fit into a batch, and how many positions each takes."""

    source: PairSource
    places: NDArray[np.int64]
    totals: NDArray[np.int64]
    """Positions of each; of one whose worse take is too long, what a batch takes."""
    too_long: int
    """Pairs that are left out, as the better take is too long."""
    cut: int
    """Pairs of which the worse take is cut."""

    @classmethod
    def of(cls, source: PairSource, *, max_tokens: int) -> UsablePairs:
        """Return the pairs that fit; a worse take that does not fit is cut at a frame, if one frame of it does."""
        sizes = source.sizes
        frame = source.layout.frame_positions
        # The prompt counts once: its positions are computed for both answers together.
        whole = sizes.sum(axis=1) + AGAIN
        least = sizes[:, 0] + sizes[:, 1] + np.minimum(sizes[:, 2], frame) + AGAIN
        fits = least <= max_tokens
        places = np.flatnonzero(fits)
        totals = np.minimum(whole[fits], max_tokens)
        return cls(source, places, totals, int((~fits).sum()), int((whole[fits] > max_tokens).sum()))

    def divide(self, share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Return (training, validation) as places among these; pairs of a text are on the same side."""
        texts = [self.source.texts[place] for place in self.places]
        speakers = [self.source.speakers[place] for place in self.places]
        return split(texts, share, speakers=speakers, seed=seed)

    def take(self, chosen: Sequence[int]) -> PairSet:
        """Return some of them as a data set."""
        wanted = np.asarray(chosen, dtype=np.int64)
        return PairSet(self.source, self.places[wanted], self.totals[wanted])


class PairSet(Dataset[PairRow]):
    """Pairs by index; index ``row + n * len`` is the row in epoch n, where pairs differ from epoch to epoch.

    Args:
        source: Where they are read.
        places: Which of them.
        totals: Positions of each (pairs,).
    """

    def __init__(self, source: PairSource, places: NDArray[np.int64], totals: NDArray[np.int64]) -> None:
        self.source = source
        self.places = places
        self.lengths = totals

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> PairRow:
        # The epoch is a part of the index, as a data worker knows nothing else of where training stands.
        lap, row = divmod(index, len(self))
        place = int(self.places[row])
        prompt, chosen, rejected = self.source.sides(place, lap)
        layout = self.source.layout
        taken = sum(map(self.source.positions, (prompt, chosen))) + AGAIN
        rejected = cut_at_frame(rejected, int(self.lengths[row]) - taken, layout)
        # Sound of both: it is what a step has to say, twice.
        audio = sum(int((layout.slot_of(ids) >= 0).sum()) for ids in (chosen, rejected))
        pair = IdPair(self.source.ids[place], prompt, chosen, rejected, audio / layout.tokens_per_second)
        return PairRow(pair, row)

    @property
    def longest(self) -> int:
        """Positions of the longest sequence that there may be: a prompt with one of its answers."""
        sizes = self.source.sizes[self.places]
        # As it is cut: positions are counted in one sequence, of which the other take is no part.
        worse = np.minimum(sizes[:, 2], self.lengths - AGAIN - sizes[:, 0] - sizes[:, 1])
        return int((sizes[:, 0] + np.maximum(sizes[:, 1], worse)).max())

    @property
    def hash(self) -> str:
        """A hash of which pairs these are, and where they are cut."""
        return f"{self.source.hash}-{hash_of_arrays([self.places, self.lengths])}"


class HeldPairs:
    """The better takes of held-out pairs, one of each text.

    Args:
        pairs: The held-out pairs.
        facts: What is known of the data that their ids were made with.
    """

    def __init__(self, pairs: PairSet, facts: Mapping[str, Any]) -> None:
        self._source = pairs.source
        self._facts = facts
        # A text may have several pairs, and is heard once.
        first: dict[str, int] = {}
        for place in pairs.places.tolist():
            first.setdefault(self._source.texts[place], place)
        self._places = list(first.values())

    @property
    def path(self) -> Path:
        """Where the pairs lie."""
        return self._source.path

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the data that their ids were made with."""
        return self._facts

    @property
    def languages(self) -> Sequence[str | None]:
        """The language of each text."""
        return [self._source.languages[place] for place in self._places]

    @property
    def speakers(self) -> Mapping[str, int]:
        """How often each voice is in the pairs, the most frequent first."""
        counts = Counter(name for name in self._source.speakers if name)
        return dict(sorted(counts.items(), key=lambda named: (-named[1], named[0])))

    def row(self, place: int) -> HeldRow:
        """Return one of the texts with its better take."""
        return self._source.row(self._places[place])

    def spoken(self, most: int) -> Iterator[HeldRow]:
        """Yield the first pairs of the source."""
        return (self._source.row(place) for place in range(min(most, len(self._source))))
