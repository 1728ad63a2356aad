"""Read a table back, whatever spreadsheet saved it: its encoding, its separator, and the line of each clip."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tts_train.corpus.rows.text import guess_encoding
from tts_train.curation.review.table import COLUMNS, EDITED
from tts_train.errors import ConfigError, DataError

SEPARATORS = ",;\t|"
"""What programs put between cells: Excel takes the separator of the country's lists."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAVE_AS = "Save it as 'CSV UTF-8' (Excel), or as 'Text CSV' with the character set UTF-8 (LibreOffice)."


@dataclass(frozen=True)
class TableLine:
    """One line of the table."""

    number: int
    """Where it begins in the file, from 1."""
    cells: Mapping[str, str]
    """By column; one that the table does not have is not in it."""

    @property
    def clip(self) -> str:
        """The row that it is about."""
        return self.cells["clip"]


@dataclass(frozen=True)
class ReadTable:
    """A table as it was read."""

    lines: list[TableLine]
    faults: list[str]
    """What is wrong with which line, a sentence each."""
    unused: list[str]
    """Columns that mean nothing here."""


def read_table(path: Path, *, encoding: str | None = None) -> ReadTable:
    """Read a table that ``corpus review``, its page or a spreadsheet wrote.

    Raises:
        DataError: if it is no table, or its encoding cannot be known.
        ConfigError: for an encoding that there is not.
    """
    if not path.is_file():
        raise ConfigError(f"--table {path} is not there. 'tts-train corpus review' writes one, and so does its page.")
    # Read whole: a table of 5,000 rows has 2 MB, and errors are told of all lines at once.
    text = _decoded(path, path.read_bytes(), encoding)
    skipped = 0
    # Excel writes and reads this line where the separator is not the country's.
    if text[:4].lower() == "sep=" and len(text) > 4:
        separators, skipped = text[4], 1
        text = text.partition("\n")[2]
    else:
        separators = SEPARATORS
    header, separator = _header(path, text, separators)
    lines: list[TableLine] = []
    faults: list[str] = []
    for number, cells in _records(text, separator, skipped, faults):
        # The header, and lines that a spreadsheet leaves empty.
        if number == skipped + 1 or not any(map(str.strip, cells)):
            continue
        if fault := _misfit(header, cells):
            faults.append(f"line {number}: {fault}")
            continue
        lines.append(TableLine(number, {name: cell for name, cell in zip(header, cells, strict=False) if name}))
    return ReadTable(lines, faults, [name for name in header if name and name not in COLUMNS])


def _decoded(path: Path, data: bytes, encoding: str | None) -> str:
    if data[:4] == b"PK\x03\x04":
        raise DataError(f"{path} is a workbook (.xlsx or .ods), not a table in a text file. {SAVE_AS}")
    # Both lie in one folder, and completion of names in a terminal stops between them.
    if data.lstrip()[:15].lower().startswith((b"<!doctype", b"<html")):
        raise DataError(f"{path} is the page itself. Press 'Save table' in it, and give the file that it saves.")
    known = next((name for start, name in _MARKS if data.startswith(start)), None)
    # Without a mark, UTF-16 is known by the zero bytes in the first word.
    wide = {b"c\0l\0i\0p\0": "utf-16-le", b"\0c\0l\0i\0p": "utf-16-be"}.get(data[:8])
    chosen = encoding or known or wide or "utf-8"
    try:
        text = data.decode(chosen)
    except LookupError:
        raise ConfigError(f"--encoding {encoding} is not known. Examples: utf-8, utf-16, cp1252, shift_jis.") from None
    except ValueError:
        if encoding:
            raise DataError(f"{path} is not {encoding}. Leave --encoding out, or name another.") from None
        guess = guess_encoding(data)
        name = guess.lower() if guess != "unknown" else "cp1252"
        raise DataError(
            f"{path} is not UTF-8. {SAVE_AS} Or, if it is {guess}, which is a guess, add: --encoding {name}"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _header(path: Path, text: str, separators: str) -> tuple[list[str], str]:
    first = text.partition("\n")[0]
    # The one by which a column is called clip: counting marks would be misled by names of further columns.
    for separator in separators:
        header = [name.strip().lower() for name in next(csv.reader([first], delimiter=separator), [])]
        if "clip" in header:
            if twice := next((name for name in header if name and header.count(name) > 1), None):
                raise DataError(f"{path} has two columns named {twice}. Leave one of them.")
            return header, separator
    raise DataError(
        f"{path} has no column named clip; its first line is {first[:80]!r}. Give a table that 'tts-train corpus "
        f"review' wrote, or one with the columns clip and some of: {', '.join((*EDITED, 'action'))}."
    )


def _records(text: str, separator: str, skipped: int, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line that each record begins on, and its cells."""
    # A text may be longer than the 128 KB that csv allows, and 'corpus review' writes it as it is.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    # strict: a quote that is never closed would swallow all lines behind it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(f"line {begins + skipped}: {error}; the lines behind it were not read")
            return
        yield begins + skipped, cells
        begins = reader.line_num + 1


def _misfit(header: list[str], cells: list[str]) -> str:
    """Say what is wrong with the number of cells; empty if nothing."""
    if len(cells) > len(header) and any(map(str.strip, cells[len(header) :])):
        return f"has {len(cells)} cells, the first line {len(header)}; a text that holds the separator needs quotes"
    missing = header[len(cells) :]
    # Excel leaves out empty cells at the end of a line; the mark is never empty, and a text hardly ever is.
    if {"clip", "text", "mark"} & set(missing):
        return f"ends before the column {missing[0]}; was the file cut off?"
    return "" if cells[header.index("clip")].strip() else "names no clip"
