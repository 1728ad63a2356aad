"""What the lines of a table change: each line against its row, and everything that is wrong with any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tts_train.corpus.rows.text import clean_language
from tts_train.curation.folder import REMOVED, TABLE
from tts_train.curation.review.changes import (
    CONFIDENCE,
    LANGUAGE,
    PLACE,
    REVIEWED,
    SPEAKER,
    SPEAKER_BY,
    TEXT,
    TEXT_BY,
    RowChange,
    Tables,
)
from tts_train.curation.review.reading import SAVE_AS, ReadTable, TableLine
from tts_train.curation.review.table import ACTIONS, EDITED, as_cell, mark, mark_of, unguard
from tts_train.curation.row import ClipRow

MOST_FAULTS = 20
"""Lines of which is told what is wrong; the rest is counted."""


@dataclass(frozen=True)
class Edits:
    """What a table changes."""

    changes: list[RowChange]
    faults: list[str]
    """What is wrong with which line; nothing is changed if there is any."""
    rows: int
    """Of the folder, that the table names."""


@dataclass(frozen=True, kw_only=True)
class _Numbered:
    """What all changes of one table have."""

    change: int
    time: str
    places: Mapping[str, int]
    """Where rows stood that were taken out, by clip."""

    def of(self, clip: str, field: str, before: Any, after: Any, **more: Any) -> RowChange:  # noqa: ANN401 - plain values
        return RowChange(change=self.change, time=self.time, clip=clip, field=field, before=before, after=after, **more)


def find_edits(table: ReadTable, tables: Tables, journal: Sequence[RowChange], *, change: int, time: str) -> Edits:
    """Return what a table changes of some rows.

    Args:
        table: as it was read.
        tables: as they are.
        journal: all changes so far; it says where rows stood that are brought back.
        change: number of the new change.
        time: of now.
    """
    stood = {each.clip: each.stood for each in journal if each.field == PLACE and each.after == REMOVED}
    numbered = _Numbered(change=change, time=time, places={clip: at for clip, at in stood.items() if at is not None})
    # As cells, since names of files may hold what no table can.
    known = {as_cell(clip): found for clip, found in tables.by_clip().items()}
    found: list[RowChange] = []
    faults = list(table.faults)
    first: dict[str, TableLine] = {}
    for line in table.lines:
        clip = _clip(line, known)
        if clip not in known:
            faults.append(f"line {line.number}: {line.clip} is no clip of this folder")
        elif (other := first.setdefault(clip, line)) is not line:
            # The same line twice, as pasting leaves it, says nothing new.
            if other.cells != line.cells:
                faults.append(f"line {line.number}: {clip} stands in line {other.number} already, with other contents")
        else:
            where, place, row = known[clip]
            changes, fault = _of_line(line, row, where, place, numbered)
            found += changes
            faults += [f"line {line.number}: {clip}: {fault}"] if fault else []
    return Edits(found, faults, len(first))


def _clip(line: TableLine, known: Mapping[str, Any]) -> str:
    clip = unguard(line.clip)
    if clip in known:
        return clip
    # Blanks at an end may have been typed; a path with ``\\`` comes from Windows.
    return clip.strip().replace("\\", "/")


def _of_line(line: TableLine, row: ClipRow, where: str, place: int, numbered: _Numbered) -> tuple[list[RowChange], str]:
    """Return the changes of one line, and what is wrong with it."""
    action = line.cells.get("action", "").strip().lower()
    if action and action not in ACTIONS:
        return [], f"the action {action!r} is not one of: {', '.join(ACTIONS)}, or nothing"
    if action == "ok" and where == REMOVED:
        return [], "it was taken out. Type keep to bring it back, or nothing"
    wanted, fault = _wanted(line, row)
    if not fault:
        fault = _fault(wanted, row)
    if fault:
        return [], fault
    # A row that is taken out is still corrected: it may be brought back.
    changes = [*_contents(row, wanted, numbered), *_fate(row, action, where, place, numbered)]
    if action == "ok" and row.facts.get(REVIEWED) is not True:
        changes.append(numbered.of(row.audio, REVIEWED, row.facts.get(REVIEWED), True))
    return changes, ""


def _wanted(line: TableLine, row: ClipRow) -> tuple[dict[str, str], str]:
    """Return the cells that a person changed, by column, and what is wrong with the line."""
    now = {name: as_cell(getattr(row, name)) for name in EDITED}
    cells = {name: as_cell(unguard(line.cells[name], now[name])) for name in EDITED if name in line.cells}
    changed = {name: cell for name, cell in cells.items() if cell != now[name]}
    written = line.cells.get("mark", "").strip()
    # A table that somebody made by hand has no marks: it means what it says.
    if not written or not changed or written == mark(row):
        return changed, ""
    if written[:4] != mark(row)[:4]:
        return {}, "the line was written of another clip of this name; the table belongs to another folder"
    # As it was when the table was written: the row has changed since, and the line asks for nothing.
    if written == mark_of(row, [cells.get(name, now[name]) for name in EDITED]):
        return {}, ""
    return {}, f"its {' and '.join(changed)} changed since the table was written. Run 'corpus review' again"


def _fault(wanted: Mapping[str, str], row: ClipRow) -> str:
    if any(_lost_letters(cell, as_cell(getattr(row, name))) for name, cell in wanted.items()):
        return f"letters became question marks when the table was saved. {SAVE_AS}"
    if language := wanted.get(LANGUAGE, "").strip():
        _, warnings = clean_language(language)
        return f"the language {language!r} is no code such as en or pt-br" if warnings else ""
    return ""


def _lost_letters(cell: str, before: str) -> bool:
    """Tell whether a text is the one of before with question marks for letters that a code page does not have."""
    # Same length: a code page puts one question mark for each letter that it lacks.
    if "?" not in cell or len(cell) != len(before):
        return False
    differing = [(now, then) for now, then in zip(cell, before, strict=True) if now != then]
    return bool(differing) and all(now == "?" and ord(then) > 127 for now, then in differing)


def _contents(row: ClipRow, wanted: Mapping[str, str], numbered: _Numbered) -> Iterator[RowChange]:
    for name, cell in wanted.items():
        if name == TEXT:
            yield numbered.of(row.audio, TEXT, row.text, cell)
            if row.text_by != "person":
                yield numbered.of(row.audio, TEXT_BY, row.text_by, "person")
            # It was of the recogniser's text.
            if row.confidence is not None:
                yield numbered.of(row.audio, CONFIDENCE, row.confidence, None)
        else:
            value = clean_language(cell.strip())[0] if name == LANGUAGE else cell.strip()
            if (value or None) != getattr(row, name):
                yield numbered.of(row.audio, name, getattr(row, name), value or None)
                # A name that clusters of voices got is replaced by the next; a person's stays.
                if name == SPEAKER and row.facts.get(SPEAKER_BY) not in {None, "person"}:
                    yield numbered.of(row.audio, SPEAKER_BY, row.facts[SPEAKER_BY], "person")


def _fate(row: ClipRow, action: str, where: str, place: int, numbered: _Numbered) -> Iterator[RowChange]:
    if action == "drop" and where == TABLE:
        yield numbered.of(row.audio, PLACE, TABLE, REMOVED, stood=place)
    elif action == "keep" and where == REMOVED:
        yield numbered.of(row.audio, PLACE, REMOVED, TABLE, stood=place, goes=numbered.places.get(row.audio))
