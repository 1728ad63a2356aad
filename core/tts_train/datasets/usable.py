"""The rows of a prepared set that a stage can use, and how they divide into training and validation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_train.datasets.split import split
from tts_train.datasets.store.shards import PreparedSet


@dataclass(frozen=True)
class UsableRows:
    """Which rows of a set are used; a backend adds what it knows of each."""

    prepared: PreparedSet
    rows: NDArray[np.int64]
    """Indices into the set."""
    left_out: Counter[str]
    """Rows that are not used, by reason."""

    @property
    def ids(self) -> list[str]:
        """Utterance ids of the rows that are used."""
        ids = self.prepared.ids
        return [ids[row] for row in self.rows.tolist()]

    @property
    def speakers(self) -> list[str | None]:
        """The speaker of each of them."""
        speakers = self.prepared.speakers
        return [speakers[row] for row in self.rows.tolist()]

    def divide(self, share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Return (training, validation) as places among the rows, by :func:`tts_train.datasets.split.split`."""
        return split(self.ids, share, speakers=self.speakers, seed=seed)
