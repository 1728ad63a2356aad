"""The rules of a row: which text, path and stretch make an utterance, and which make a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from tts_train.corpus.layouts.base import RawRow
from tts_train.corpus.layouts.splits import split_of
from tts_train.corpus.rows.codes import read_codes
from tts_train.corpus.rows.files import AudioFinder, Found, NotFound
from tts_train.corpus.rows.names import is_path, plain_name
from tts_train.corpus.rows.text import MAX_TEXT, clean_language, clean_text, has_words
from tts_train.corpus.rows.utterance import Rejected, Utterance, utterance_id


def parse_segment(row: Mapping[str, Any]) -> tuple[float | None, float | None, str]:
    """Return (start, end, what is wrong or an empty string) of a row keyed by meaning; empty values count as none.

    ``duration`` says where a stretch ends only beside a start: alone, it is the length of the file.
    """
    if row.get("start") in (None, "") and row.get("end") in (None, ""):
        return None, None, ""
    values: dict[str, float | None] = {}
    for key in ("start", "end", "duration"):
        try:
            values[key] = _number(row.get(key))
        except (TypeError, ValueError, OverflowError):
            return None, None, f"{key} is {str(row[key])[:40]!r}, not a number of seconds"
    start, end, duration = values["start"], values["end"], values["duration"]
    # NeMo writes offset and duration; alone, duration is that of the whole file.
    if end is None and start is not None and duration is not None:
        end = start + duration
    first, last = start or 0.0, math.inf if end is None else end
    if not 0 <= first < last:
        return None, None, f"start is {first:g} and end is {last:g} s"
    return start, end, ""


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever a JSON or Parquet file holds
    if value is None or value == "":
        return None
    # float(True) is 1.0.
    if isinstance(value, bool):
        raise TypeError("a truth value is no time")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


class RowBuilder:
    """Turns raw rows into utterances, or into the reason why not."""

    def __init__(self, finder: AudioFinder, *, folders: tuple[str, ...] = ()) -> None:
        self.finder = finder
        self.folders = folders
        """What the folders above a recording name, the outermost first."""

    def build(self, raw: RawRow) -> Utterance | Rejected:
        """Return the utterance, its audio found but not opened."""
        text, warnings = clean_text(raw.text)
        if reason := _text_fault(text):
            return Rejected(raw.origin, reason, f"{len(text)} characters" if reason == "text_too_long" else "")
        codes, codes_warnings = read_codes(raw.codes)
        audio: Path | bytes
        if isinstance(raw.audio, bytes):
            # Embedded recordings have no name, so their content is what tells them apart.
            audio, name = raw.audio, "xxh128:" + xxhash.xxh3_128_hexdigest(raw.audio)
        else:
            found = self.finder.find(raw.audio, base=raw.base)
            if codes is not None and isinstance(found, NotFound) and found.reason == "missing":
                found = self._place(raw.audio, raw.base, found, "recording_missing")
            if isinstance(found, NotFound):
                return Rejected(raw.origin, found.reason, found.detail)
            audio, name = found.path, found.name
            warnings += found.warnings
        reference = self._reference(raw)
        if isinstance(reference, NotFound):
            return Rejected(raw.origin, "bad_row", "its reference has a name that no file can have")
        named = _by_folder(name, self.folders) if isinstance(audio, Path) else {}
        speaker, speaker_warnings = _label(named.get("speaker", raw.speaker), "speaker_missing")
        language, language_warnings = _label(named.get("language", raw.language), "language_missing")
        if language:
            language, language_warnings = clean_language(language)
        warnings += speaker_warnings + language_warnings + codes_warnings
        if isinstance(reference, Found):
            warnings += reference.warnings
        identity = utterance_id(name, raw.start, raw.end)
        part = split_of(raw) or None
        instruct = clean_text(raw.instruct or "")[0] or None
        return Utterance(
            identity, audio, text, speaker, language, raw.start, raw.end, raw.origin, warnings, part,
            instruct=instruct, reference=reference.path if isinstance(reference, Found) else reference, codes=codes,
        )  # fmt: skip

    def _reference(self, raw: RawRow) -> Found | NotFound | bytes | None:
        if not isinstance(raw.reference, str):
            return raw.reference
        if not raw.reference.strip():
            return None
        found = self.finder.find(raw.reference, base=raw.base)
        # Most backends need none: those that do refuse the row when they read it.
        return found if isinstance(found, Found) else self._place(raw.reference, raw.base, found, "reference_missing")

    def _place(self, name: str, base: str | None, why: NotFound, warning: str) -> Found | NotFound:
        """Return where a file would lie that cannot be used, with a warning; or why, where no file has such a name."""
        if "\0" in name or not is_path(name):
            return why
        return Found(Path(base or self.finder.root, name), plain_name(name), (warning,))


def _text_fault(text: str) -> str | None:
    if not text:
        return "empty_text"
    if len(text) > MAX_TEXT:
        return "text_too_long"
    return None if has_words(text) else "punctuation_only"


def _by_folder(name: str, meanings: tuple[str, ...]) -> dict[str, str]:
    """Return what the folders of a recording name, the nearest first; an empty name where there is no such folder."""
    above = name.split("/")[-2::-1]
    return {meaning: above[at] if at < len(above) else "" for at, meaning in enumerate(reversed(meanings))}


def _label(value: str | None, warning: str) -> tuple[str | None, tuple[str, ...]]:
    """Clean a speaker or language; None is a layout without the column, empty a row that left it out."""
    if value is None:
        return None, ()
    cleaned = clean_text(value)[0]
    return (cleaned, ()) if cleaned else (None, (warning,))
