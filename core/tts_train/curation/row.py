"""One row of a corpus folder: a clip, where it was cut from, what is said in it, and who said so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tts_train.errors import DataError

PARTS = ("train", "validation", "test")
"""What ``split`` of a row may say."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a clip lies in the recording that it was cut from."""

    recording: str
    """As the ledger names it."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """One line of ``corpus.jsonl``; every layout reader takes it as audio, text, speaker and language."""

    audio: str
    """Path of the clip below the folder, ``/`` between; no two rows have the same."""
    seconds: float
    text: str = ""
    """Empty until somebody or something says what is said."""
    speaker: str | None = None
    language: str | None = None
    text_by: str | None = None
    """Who wrote the text: ``corpus`` (it came with the recordings), ``subtitles``, ``recogniser NAME``, ``person``."""
    confidence: float | None = None
    """How sure a recogniser was of the text, 0 to 1."""
    cut: Cut | None = None
    """None for a clip that was a recording of its own."""
    split: str | None = None
    """``train``, ``validation`` or ``test``; ``prepare`` reads ``train`` alone where rows say so."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What steps measured, in plain types, each under a name of its own."""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as it is written: without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> ClipRow:
        """Return the row that :meth:`as_dict` wrote; names that are not known are kept among the facts.

        Raises:
            DataError: if it is none; the message is for one line and says what is wrong with it.
        """
        known = {each.name for each in fields(cls)}
        try:
            values = {name: value for name, value in row.items() if name in known}
            cut = None if values.get("cut") is None else Cut(**values["cut"])
            # A person may have added a column; nothing that stands in the table is lost.
            facts = {**values.get("facts", {}), **{name: row[name] for name in row if name not in known}}
            found = cls(**{**values, "cut": cut, "facts": facts})
        except TypeError as error:
            raise DataError(f"no row of a corpus folder: {error}") from None
        if not isinstance(found.audio, str) or not found.audio:
            raise DataError("no row of a corpus folder: audio must be a path")
        # JSON as Python reads it has NaN and infinities, which no ledger can add up.
        number = isinstance(found.seconds, (int, float)) and not isinstance(found.seconds, bool)
        if not number or not 0 <= found.seconds < math.inf:
            raise DataError(f"no row of a corpus folder: seconds is {found.seconds!r}, not a number from 0")
        if not isinstance(found.text, str):
            raise DataError(f"no row of a corpus folder: text is {found.text!r}, not a string")
        # Another name would be a part that no command writes, exports or trains on.
        if found.split not in (None, *PARTS):
            raise DataError(f"no row of a corpus folder: split is {found.split!r}, not one of {', '.join(PARTS)}")
        return found
