"""Tables in a text file, ``metadata.csv`` and its kin: bars, tabs or commas, with or without a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tts_train.corpus.columns import match_columns
from tts_train.corpus.files import first_existing
from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.segments import parse_segment
from tts_train.corpus.text import read_lines, require_utf8
from tts_train.corpus.utterance import Rejected
from tts_train.errors import DataError

NAMES = ("metadata.csv", "metadata.tsv", "metadata.txt")

_SAMPLE = 500
# A quoted field may hold line breaks; a stray quote must not swallow the file.
_MAX_QUOTED_LINES = 20


class Table(Layout):
    """LJSpeech, piper, F5-TTS and audio folders with a ``metadata.csv``; one, or one in each subfolder."""

    name = "metadata"
    summary = "metadata.csv with id|text, id|speaker|text or id|text|normalised, or with a header and | , or tabs"

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files
        for file in files:
            require_utf8(file)

    @classmethod
    def detect(cls, path: Path) -> Table | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            return cls(path, path.parent, [path]) if path.suffix.lower() in {".csv", ".tsv", ".txt"} else None
        if not path.is_dir():
            return None
        files = [found] if (found := first_existing(path, NAMES)) else _in_subfolders(path)
        tables = [] if files else [table for table in sorted(path.glob("*.[ct]sv")) if _may_be_corpus(table)]
        if len(tables) > 1:
            raise DataError(f"{path} holds {len(tables)} tables and no metadata.csv. Name the one to read.")
        files = files or tables
        return cls(path, path, files) if files else None

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            yield from self._read(file)

    def _read(self, file: Path) -> Iterator[RawRow | Rejected]:
        shown, base = self.shown(file), str(file.parent)
        sample = [line for _, line in islice(read_lines(file), _SAMPLE)]
        if not sample:
            return
        delimiter = next((mark for mark in "|\t," if mark in sample[0]), "|")
        header = split_header(sample[0], delimiter)
        columns = header or _guess_columns(sample, delimiter)
        for number, parts in _records(file, delimiter, len(columns)):
            origin = f"{shown}:{number}"
            if header:
                header = None  # the first record
                continue
            if isinstance(parts, str) or len(parts) < len(columns):
                found = parts if isinstance(parts, str) else f"{len(parts)} columns, not {len(columns)}"
                yield Rejected(origin, "bad_row", f"{found} ({delimiter.join(columns)})")
                continue
            yield _to_raw(origin, dict(zip(columns, parts, strict=False)), base)


def split_header(line: str, delimiter: str) -> list[str] | None:
    """Return the meanings of a header's columns, or None if the line is no header."""
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    known = {actual: meaning for meaning, actual in match_columns(names).items()}
    if "audio" not in known.values() or not {"text", "normalised"} & set(known.values()):
        return None
    return [known.get(name, f"({name})") for name in names]


def _guess_columns(sample: list[str], delimiter: str) -> list[str]:
    """Two columns are id and text; of three, the middle one is a text if it is as long as the last, else a speaker."""
    if delimiter == ",":
        raise DataError(
            f"The table starts with {sample[0][:80]!r}, has commas and no header. "
            "Put a header such as file_name,text first."
        )
    rows = [line.split(delimiter, 2) for line in sample]
    triples = [row for row in rows if len(row) == 3]
    # A bar in some text makes three of two; a third column stands in every row.
    if len(triples) * 2 <= len(rows):
        return ["audio", "text"]
    middle, last = sum(len(row[1]) for row in triples), sum(len(row[2]) for row in triples)
    varied = len({row[1] for row in triples}) * 2 > len(triples) > 3
    same_length = middle * 2 > last and (varied or any(" " in row[1].strip() or row[1] == row[2] for row in triples))
    return ["audio", "text", "normalised"] if same_length or not last else ["audio", "speaker", "text"]


def _records(file: Path, delimiter: str, width: int) -> Iterator[tuple[int, list[str] | str]]:
    """Yield (line number, columns or what is wrong)."""
    if delimiter == ",":
        yield from _quoted_records(file)
        return
    for number, line in read_lines(file):
        # No quoting here: in such files a quotation mark is a quotation mark.
        yield number, line.split(delimiter, width - 1)


def _quoted_records(file: Path) -> Iterator[tuple[int, list[str] | str]]:
    """Comma tables record by record, so that a stray quote costs its own row and not those below it."""
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 24))
    lines = list(read_lines(file))
    index = 0
    while index < len(lines):
        for taken in range(1, min(_MAX_QUOTED_LINES, len(lines) - index) + 1):
            record = _parse([line for _, line in lines[index : index + taken]])
            if record is not None:
                yield lines[index][0], record
                index += taken
                break
        else:
            yield lines[index][0], "a quotation mark is never closed"
            index += 1


def _parse(lines: list[str]) -> list[str] | None:
    try:
        records = list(
            csv.reader(["\n".join(lines)] if len(lines) == 1 else [f"{line}\n" for line in lines], strict=True)
        )
    except csv.Error:
        return None
    return records[0] if len(records) == 1 else None


def _to_raw(origin: str, row: dict[str, str], base: str) -> RawRow | Rejected:
    text = row.get("normalised", "").strip() or row.get("text", "")
    start, end, fault = parse_segment(row)
    if fault:
        return Rejected(origin, "bad_segment", fault)
    return RawRow(origin, row["audio"].strip(), text, row.get("speaker"), row.get("language"), start, end, base)


def _may_be_corpus(table: Path) -> bool:
    """A table of another name may be about anything, such as the speakers."""
    with table.open("rb") as file:
        first = file.readline(1 << 16).decode("utf-8-sig", "replace")
    return "|" in first or any(split_header(first.rstrip(), mark) for mark in "\t,")


def _in_subfolders(path: Path) -> list[Path]:
    """Audio folders keep a table in each split."""
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    return [found for folder in folders if (found := first_existing(folder, NAMES[:1]))]
