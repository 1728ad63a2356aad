"""One row of a corpus folder: a clip, where it was cut from, what is said in it, and who said so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
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
    instruct: str | None = None
    """How it is spoken, in words."""
    reference: str | None = None
    """Path below the folder of a recording of the same speaker, by which the voice is taken."""
    audio_codes: list[list[int]] | None = None
    """Frames of the codes that some codec made of the clip, as they came with the corpus."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What steps measured, in plain types, each under a name of its own."""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as it is written: without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> ClipRow:
        """Return the row that :meth:`as_dict` wrote; names that are not known are kept among the facts.

        Raises:
            DataError: if it is not a row; the message is for one line and says what is wrong with it.
        """
        known = {each.name for each in fields(cls)}
        try:
            values = {name: value for name, value in row.items() if name in known}
            cut = None if values.get("cut") is None else Cut(**values["cut"])
            # A person may have added a column; nothing that stands in the table is lost.
            facts = {**values.get("facts", {}), **{name: row[name] for name in row if name not in known}}
            found = cls(**{**values, "cut": cut, "facts": facts})
        except TypeError as error:
            wrong = next((name for name in ("cut", "facts") if not isinstance(row.get(name, {}), dict)), "")
            raise DataError(f"no row of a corpus folder: {wrong or error}{' is no object' * bool(wrong)}") from None
        if fault := _fault(found):
            raise DataError(f"no row of a corpus folder: {fault}")
        # A cell that a person emptied names nobody.
        found = replace(found, speaker=found.speaker or None, language=found.language or None)
        return replace(found, instruct=found.instruct or None, reference=found.reference or None)


def _fault(row: ClipRow) -> str:
    """Say which value is of another kind than commands take it for; empty if none is."""
    if not isinstance(row.audio, str) or not row.audio or "\0" in row.audio:
        return f"audio is {row.audio!r}, not a path"
    for name in ("text", "speaker", "language", "text_by", "instruct", "reference"):
        value = getattr(row, name)
        if not isinstance(value, str) and (value is not None or name == "text"):
            return f"{name} is {value!r}, not a string"
    if not isinstance(row.audio_codes, (list, type(None))):
        return f"audio_codes is {row.audio_codes!r}, not a list of frames"
    # Another name would be a part that no command writes, exports or trains on.
    if row.split not in (None, *PARTS):
        return f"split is {row.split!r}, not one of {', '.join(PARTS)}"
    cut = row.cut
    if cut is not None and not (isinstance(cut.recording, str) and _is_length(cut.start) and _is_length(cut.end)):
        return f"cut is {asdict(cut)!r}, not a recording with start and end in seconds"
    if not _is_length(row.seconds):
        return f"seconds is {row.seconds!r}, not a number from 0"
    if row.confidence is not None and not _is_length(row.confidence):
        return f"confidence is {row.confidence!r}, not a number from 0 to 1"
    return ""


def _is_length(value: object) -> bool:
    # JSON of Python reads NaN and Infinity, which no sum survives; True is a number to Python alone.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
