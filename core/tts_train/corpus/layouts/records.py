"""Lines of a text table cut into fields: by which mark, and with or without the quotation marks of a CSV writer."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tts_train.corpus.rows.text import read_lines

MARKS = "|\t;,"
"""What stands between fields, in order of preference."""

# A quoted field may hold line breaks; a stray quote must not swallow the file.
_MAX_QUOTED_LINES = 20


_SWAP = str.maketrans({"'": '"', '"': "'"})
_DOUBLED = "its quotation marks are a CSV writer's, those of other rows are part of the text; write all in one way"


class Record(NamedTuple):
    """One row of a table, its fields as they stand there."""

    line: int
    """From 1; of a row over several lines, the first."""
    fields: list[str]
    fault: str = ""
    """Why the row cannot be cut into fields; empty if it can."""
    plain: bool = True
    """Whether the fields are the line cut at each mark, with no quotation mark taken away."""


def cut(line: str, mark: str, *, quoted: bool) -> list[str]:
    """Return the fields of a line; where it cannot be read as quoted, cut at each mark."""
    return (_parse([line], mark) if quoted and '"' in line else None) or line.split(mark)


def is_quoted(lines: Sequence[str], mark: str) -> bool:
    """Tell whether a CSV writer set quotation marks: around fields that need them, or around every field of a column.

    Elsewhere a quotation mark is a part of the text.
    """
    needed = broken = 0
    columns: list[set[int]] = []
    for at, line in enumerate(lines):
        if '"' not in line:
            columns.append(set())
            continue
        fields, taken = _parse([line], mark), 1
        if fields is None:
            fields, taken = _over_lines(lines[at : at + _MAX_QUOTED_LINES], mark, _is_row(mark, line))
        if fields is None:
            broken += 1
            continue
        written = _written_quoted("\n".join(lines[at : at + taken]), fields, mark)
        needed += any(mark in fields[n] or '"' in fields[n] or "\n" in fields[n] for n in written)
        columns.append(written)
    return needed > broken or (not broken and bool(columns) and bool(set.intersection(*columns)))


def in_single_quotes(lines: Sequence[str]) -> bool:
    """Tell whether single quotation marks stand where a CSV writer sets double ones: around a name in every row.

    Apostrophes and quoted speech in texts are no such marks. The first line may be a header, and is not looked at.
    """
    body = [swapped(line) for line in lines[1:] or lines]
    # Apostrophes stand in some lines; marks of a writer in most.
    if sum('"' in line for line in body) * 2 <= len(body):
        return False
    for mark in MARKS:
        parsed = [(line, fields) for line in body if len(fields := _parse([line], mark) or []) > 1]
        if len(parsed) * 2 <= len(body):
            continue
        everywhere = set.intersection(*(_written_quoted(line, fields, mark) for line, fields in parsed))
        if any(not any(map(str.isspace, fields[number])) for number in everywhere for _, fields in parsed[:1]):
            return True
    return False


def swapped(text: str) -> str:
    """Return a text with single quotation marks for double ones, and the other way round."""
    return text.translate(_SWAP)


def records(
    file: Path, mark: str, *, quoted: bool, is_row: Callable[[str], bool], single: bool = False
) -> Iterator[Record]:
    """Yield every row. A stray quotation mark costs its own row and not those below it.

    Args:
        file: UTF-8 text.
        mark: what stands between fields.
        quoted: whether fields may stand in quotation marks.
        is_row: tells whether a line alone is a whole row; such a line is no part of another row's quoted text.
        single: whether these quotation marks are single ones; ``is_row`` is then asked with double ones.
    """
    if single:
        # The csv module knows one kind of quotation mark at a time, and doubling is its rule for it.
        lines = [(number, swapped(line)) for number, line in read_lines(file)]
        for record in _quoted(lines, mark, is_row):
            yield record._replace(fields=[swapped(value) for value in record.fields])
        return
    if not quoted:
        for number, line in read_lines(file):
            doubled = '""' in line and _has_doubled(line, mark)
            yield Record(number, line.split(mark), _DOUBLED if doubled else "")
        return
    yield from _quoted(list(read_lines(file)), mark, is_row)


def _quoted(lines: Sequence[tuple[int, str]], mark: str, is_row: Callable[[str], bool]) -> Iterator[Record]:
    index = 0
    while index < len(lines):
        number, line = lines[index]
        if '"' not in line:
            yield Record(number, line.split(mark))
            index += 1
            continue
        fields, taken = _parse([line], mark), 1
        if fields is None:
            following = [text for _, text in lines[index : index + _MAX_QUOTED_LINES]]
            fields, taken = _over_lines(following, mark, is_row)
        if fields is None:
            yield Record(number, [], "a quotation mark is never closed or stands inside a quoted text")
            index += 1
        else:
            yield Record(number, fields, plain=False)
            index += taken


def _has_doubled(line: str, mark: str) -> bool:
    """Tell whether a CSV writer put quotation marks around a text that has some: elsewhere they are part of a text."""
    fields = _parse([line], mark) or []
    return any('"' in fields[number] for number in _written_quoted(line, fields, mark))


def _over_lines(lines: Sequence[str], mark: str, is_row: Callable[[str], bool]) -> tuple[list[str] | None, int]:
    """Return the fields of a row that begins in the first line and ends in a later one, and how many lines it has."""
    for count in range(2, len(lines) + 1):
        # A whole row stands here, so the mark above it was never closed: only its own row is lost.
        if is_row(lines[count - 1]):
            break
        if (fields := _parse(lines[:count], mark)) is not None:
            return fields, count
    return None, 0


def _is_row(mark: str, first: str) -> Callable[[str], bool]:
    """Before the columns are known: a line with as many marks as the one that the row begins in."""
    return lambda line: line.count(mark) >= first.count(mark) > 0


def _parse(lines: Sequence[str], mark: str) -> list[str] | None:
    # The default of 128 kB is for all of Python; a longer field would be an error of another kind.
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 24))
    # A blank behind the mark is no part of a quoted field: "a.wav, "Yes, it is."".
    source = [lines[0]] if len(lines) == 1 else [f"{line}\n" for line in lines]
    try:
        found = list(csv.reader(source, delimiter=mark, strict=True, skipinitialspace=True))
    except csv.Error:
        return None
    # A line break outside of quotation marks makes two rows, which lines that were joined for one must not hold.
    return found[0] if len(found) == 1 else None


def _written_quoted(text: str, fields: Sequence[str], mark: str) -> set[int]:
    """Say which of the fields stand in quotation marks in the text."""
    found, at = set[int](), 0
    for number, value in enumerate(fields):
        at += len(text[at:]) - len(text[at:].lstrip(" "))
        if text.startswith('"', at):
            found.add(number)
            at += len(value.replace('"', '""')) + 2
        else:
            at += len(value)
        at = text.find(mark, at) + 1
        if not at:
            break
    return found
