"""What is heard while a run trains: texts that are not trained on, each with the sound that it has in the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tts_train.datasets.store.shards import PreparedSet
from tts_train.families.token_lm.data.token_rows import inspect_rows

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Ids, TokenLayout


@dataclass(frozen=True, kw_only=True)
class HeldRow:
    """One text of the data, and how it sounds there."""

    prompt: Ids
    """Ids after which it is said."""
    audio: Ids
    """Ids of its sound, without an end."""
    id: str | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None


class HeldTexts(Protocol):
    """Texts of a run's data, of which some are held out."""

    @property
    def path(self) -> Path:
        """Where the data lie."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of how the ids were made, as ``StageData.remember`` says it."""

    @property
    def languages(self) -> Sequence[str | None]:
        """The language of each held-out text."""

    @property
    def speakers(self) -> Mapping[str, int]:
        """How often each voice is in the data, the most frequent first."""

    def row(self, place: int) -> HeldRow:
        """Return one of the held-out texts."""

    def spoken(self, most: int) -> Iterator[HeldRow]:
        """Yield up to ``most`` texts of all data, by which the usual pace is learned."""


_COLUMNS = ("id", "input_ids", "prompt_tokens", "text", "speaker", "language")


class HeldRows:
    """Held-out rows of a prepared set.

    Args:
        path: The set.
        rows: Which of its rows are held out.
        layout: The ids.
    """

    def __init__(self, path: Path, rows: NDArray[np.int64], layout: TokenLayout) -> None:
        # Opened anew for columns that training does not read.
        self._set = PreparedSet(path, columns=_COLUMNS)
        self._rows = [int(row) for row in rows]
        self._layout = layout

    @property
    def path(self) -> Path:
        """The set's."""
        return self._set.path

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its settings as they are reached from here, its speakers and languages."""
        return {**self._set.facts, "settings": self._set.settings}

    @property
    def languages(self) -> Sequence[str | None]:
        """The language of each held-out row."""
        # Read when it is asked for: training itself needs no language.
        known = self._set.rows.column("language").to_pylist() if "language" in self._set.rows.names else []
        return [known[row] if known else None for row in self._rows]

    @property
    def speakers(self) -> Mapping[str, int]:
        """Rows of each named speaker of the set, most first."""
        return self._set.speaker_counts

    def row(self, place: int) -> HeldRow:
        """Return one of the held-out rows."""
        return self._read(self._rows[place])

    def spoken(self, most: int) -> Iterator[HeldRow]:
        """Yield the first rows of the set."""
        return (self._read(number) for number in islice(range(len(self._set)), most))

    def _read(self, number: int) -> HeldRow:
        columns = self._set.row(number)
        prompt, audio = _parts(self._layout, columns)
        named: dict[str, Any] = {name: columns.get(name) for name in ("id", "text", "speaker", "language")}
        return HeldRow(prompt=prompt, audio=audio, **named)


def _parts(layout: TokenLayout, row: Mapping[str, Any]) -> tuple[Ids, Ids]:
    """Return the prompt of a training row, and the audio ids behind it."""
    ids: Ids = row["input_ids"].astype(np.int64)
    # Sets made elsewhere say it by their ids alone.
    told = row.get("prompt_tokens")
    prompt = int(inspect_rows(ids, [len(ids)], layout).prompts[0] if told is None else told)
    said = ids[prompt:]
    return ids[:prompt], said[layout.slot_of(said) >= 0]
