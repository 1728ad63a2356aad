"""The table that a person edits: its columns, and texts in cells that no spreadsheet takes for something else."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

from tts_train.curation.review.suspicion import Verdict, second_hypothesis
from tts_train.curation.row import ClipRow

COLUMNS = (
    "clip", "text", "speaker", "language", "action", "suspicion", "why", "seconds", "confidence", "second hypothesis",
    "text by", "state", "mark",
)  # fmt: skip
"""``mark`` is last and never empty, so that a line that was cut off is told from one with empty cells."""
EDITED = ("text", "speaker", "language")
"""Columns whose cells may be changed; ``action`` may be filled in."""
ACTIONS = ("drop", "keep", "ok")
"""What may stand in ``action``, besides nothing."""
REVIEWED, TAKEN_OUT = "reviewed", "removed"
"""What may stand in ``state``, besides nothing."""
_GUARDED_COLUMNS = ("clip", "text", "speaker", "language", "second hypothesis")


def _any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" for letter in word)


_DIGITS, _LETTERS, _MARKS = "[0-9]", "[A-Za-z\u00c0-\u024f\u0400-\u04ff]", "[ .,:/%€$£()+-]"
_MONTHS = "|".join(
    map(
        _any_case,
        (
            *("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
            *("mär", "mrz", "mai", "okt", "dez", "fév", "fev", "avr", "aoû", "déc", "ene", "abr", "ago", "dic"),
            *("gen", "mag", "giu", "lug", "set", "ott", "out", "янв", "фев", "мар", "апр", "май", "мая", "июн"),
            *("июл", "авг", "сен", "окт", "ноя", "дек"),
        ),
    )
)
_MONTH = f"(?:{_MONTHS}){_LETTERS}{{0,7}}"
_BOOLEANS = "|".join(map(_any_case, ("true", "false", "wahr", "falsch", "vrai", "faux", "verdadero", "falso")))
MISTAKEN = (
    "'*(?:"
    "[=+@\t\r\n＝＋－＠-][^]*"  # run as a formula (CWE-1236); ranges of OWASP's page on CSV injection
    f"|{_MARKS}*{_DIGITS}(?:{_DIGITS}|{_MARKS})*(?:[eE]{_DIGITS}+)?"  # 007, 1-2, 1e5, 10:30
    f"|{_DIGITS}{{1,2}}[ ./-]*{_MONTH}[ ./-]*{_DIGITS}{{0,4}}"  # 5 May, 5. Mai 2020
    f"|{_MONTH}[ ./-]+{_DIGITS}{{1,4}}(?:[ ,./-]+{_DIGITS}{{2,4}})?"  # May 5
    f"|{_BOOLEANS}|[ \t\u00a0][^]*|[^]*[ \t\u00a0])"  # TRUE; blanks at an end, which may be stripped
)
"""Cells that a spreadsheet runs as a formula or turns into a number, a date or a truth value, when the file is opened.

In JavaScript's dialect, as the page uses it, too: ``[^]`` is any character.
"""
_MISTAKEN = re.compile(MISTAKEN.replace("[^]", r"[\s\S]"))


@dataclass(frozen=True)
class Shown:
    """One row as the table and the page show it."""

    row: ClipRow
    verdict: Verdict
    removed: bool = False
    """Whether it was taken out before."""

    def cells(self) -> list[str]:
        """Return what stands in each of :data:`COLUMNS`, not guarded."""
        row, verdict = self.row, self.verdict
        state = TAKEN_OUT if self.removed else REVIEWED if verdict.reviewed else ""
        why = "; ".join(reason.said for reason in verdict.reasons)
        confidence = "" if row.confidence is None else f"{row.confidence:.2f}"
        figures = [f"{verdict.suspicion:.2f}", why, f"{row.seconds:.2f}", confidence]
        told = [second_hypothesis(row) or "", row.text_by or "", state, mark(row)]
        return [as_cell(each) for each in (row.audio, row.text, row.speaker, row.language, "", *figures, *told)]


def as_cell(value: str | None) -> str:
    """Return a value as a cell can hold it: line ends are ``\\n``, and what no file can hold is U+FFFD."""
    # Excel and text fields of browsers turn any end of a line into this one.
    text = (value or "").replace("\r\n", "\n").replace("\r", "\n")
    # csv of Python 3.10 reads no NUL, and UTF-8 has no lone surrogates.
    return re.sub("[\0\ud800-\udfff]", "\ufffd", text)


def guard(cell: str) -> str:
    """Return a cell with an apostrophe before it where a spreadsheet would mistake it; see :func:`unguard`."""
    return f"'{cell}" if _MISTAKEN.fullmatch(cell) else cell


def unguard(cell: str, before: str = "") -> str:
    """Return what a guarded cell says.

    Args:
        cell: as it stands in the table.
        before: what the cell said when the table was written: an apostrophe before it stays when a person changes
            the rest.
    """
    guarded = cell.startswith("'") and (_MISTAKEN.fullmatch(cell[1:]) or _MISTAKEN.fullmatch(before))
    return cell[1:] if guarded else cell


def mark(row: ClipRow) -> str:
    """Return letters that say which clip and which contents a line of the table was written of.

    The first four are of the clip, the rest of text, speaker and language: so a line that a person left as it was is
    known as such also when the row has changed since.
    """
    return mark_of(row, [as_cell(getattr(row, name)) for name in EDITED])


def mark_of(row: ClipRow, edited: Sequence[str]) -> str:
    """Return the mark that a row would have with other contents of its :data:`EDITED` cells."""
    # The length tells clips of one name apart: every tool begins to count at 0001.
    return _letters([row.audio, round(row.seconds, 3)], 4) + _letters(list(edited), 8)


def _letters(value: object, count: int) -> str:
    """Only letters: a spreadsheet would take ``3e12`` for a number."""
    number = xxhash.xxh3_64_intdigest(json.dumps(value).encode())
    digits = (number // 26**place % 26 for place in range(count))
    return "".join(chr(ord("a") + digit) for digit in digits)


def table_text(rows: Iterable[Shown]) -> str:
    """Return the table as CSV, with the mark at its start by which Excel knows UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            guard(cell) if name in _GUARDED_COLUMNS else cell for name, cell in zip(COLUMNS, row.cells(), strict=True)
        )
    return "\ufeff" + out.getvalue()
