"""One JSON object a line: JSONL manifests, and audio folders with a ``metadata.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tts_train.corpus.columns import match_columns
from tts_train.corpus.files import first_existing
from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.segments import parse_segment
from tts_train.corpus.text import read_lines, require_utf8
from tts_train.corpus.utterance import Rejected
from tts_train.errors import DataError

NAMES = ("metadata.jsonl", "manifest.jsonl", "manifest.json")


class JsonLines(Layout):
    """``{"audio": …, "text": …}`` with optional speaker, language, start and end."""

    name = "jsonl"
    summary = 'a .jsonl file with {"audio": …, "text": …} on each line'

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files
        for file in files:
            require_utf8(file)

    @classmethod
    def detect(cls, path: Path) -> JsonLines | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            named = path.suffix.lower() in {".jsonl", ".ndjson"} or path.name in NAMES
            return cls(path, path.parent, [path]) if named else None
        if not path.is_dir():
            return None
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        found = [file for folder in (path, *folders) if (file := first_existing(folder, NAMES))]
        if first_existing(path, NAMES):
            found = found[:1]
        tables = [] if found else sorted(path.glob("*.jsonl"))
        if len(tables) > 1:
            raise DataError(f"{path} holds {len(tables)} .jsonl files and no metadata.jsonl. Name the one to read.")
        return cls(path, path, found or tables) if found or tables else None

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            shown, base = self.shown(file), str(file.parent)
            for number, line in read_lines(file):
                if line.strip():
                    yield _parse(line, f"{shown}:{number}", base)


def _parse(line: str, origin: str, base: str) -> RawRow | Rejected:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Rejected(origin, "bad_row", f"no JSON: {error}")
    if not isinstance(row, dict):
        return Rejected(origin, "bad_row", "not a JSON object")
    return from_mapping({meaning: row[name] for meaning, name in match_columns(row).items()}, origin, base)


def from_mapping(row: dict[str, Any], origin: str, base: str | None) -> RawRow | Rejected:
    """Check the types of a row keyed by meaning and make a raw row of it."""
    audio, text = row.get("audio"), row.get("normalised") or row.get("text")
    if isinstance(audio, dict):
        audio = audio.get("bytes") or audio.get("path")
    if not isinstance(audio, (str, bytes)) or not audio:
        return Rejected(origin, "bad_row", "no audio")
    if not isinstance(text, str) and text is not None:
        return Rejected(origin, "bad_row", f"text is a {type(text).__name__}, not a string")
    start, end, fault = parse_segment(row)
    if fault:
        return Rejected(origin, "bad_segment", fault)
    return RawRow(origin, audio, text or "", _label(row, "speaker"), _label(row, "language"), start, end, base)


def _label(row: dict[str, Any], key: str) -> str | None:
    """Speakers are often numbers; a missing value is an empty one, a missing column None."""
    if key not in row:
        return None
    value = row[key]
    return "" if value is None else str(value)
