"""Changes of rows: how they are done, how they are undone, and the file that keeps each of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from tts_train.curation.folder import REMOVED, TABLE, CorpusFolder, as_json_line
from tts_train.curation.row import ClipRow
from tts_train.errors import ConfigError, DataError

JOURNAL = "changes.jsonl"
"""Every change ever made by a table, the oldest first; nothing is taken out of it."""
TEXT, SPEAKER, LANGUAGE, TEXT_BY, CONFIDENCE = "text", "speaker", "language", "text_by", "confidence"
REVIEWED, SPEAKER_BY = "reviewed", "speaker_by"
"""Kept among the facts: whether a person has heard the clip, and who named the speaker (see ``corpus speakers``)."""
_FACTS = (REVIEWED, SPEAKER_BY)
PLACE = "table"
"""The field that is changed where a row is taken out or brought back: from one table to the other."""


Places: TypeAlias = "dict[str, tuple[str, int, ClipRow]]"
"""By clip: the table that its row stands in, where in it, and the row."""


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One field of one row, before and after; all changes of one command have one number."""

    change: int
    time: str
    """In UTC, by ISO 8601."""
    clip: str
    field: str
    before: Any
    after: Any
    stood: int | None = None
    """Of a row that changes the table: where it stood in the one that it leaves, from 0."""
    goes: int | None = None
    """Where it goes to in the other table; None is the end."""
    undoes: int | None = None
    """Number of the change that is undone by this one."""

    def as_line(self) -> str:
        """Return the line of the journal."""
        told = {name: value for name, value in asdict(self).items() if value is not None or name in {"before", "after"}}
        return as_json_line(told)


@dataclass(frozen=True)
class Tables:
    """The rows of a corpus folder, and those that were taken out."""

    kept: tuple[ClipRow, ...]
    removed: tuple[ClipRow, ...]

    @classmethod
    def read(cls, folder: CorpusFolder) -> Tables:
        """Return the tables of a folder."""
        return cls(tuple(folder.rows()), tuple(folder.rows(REMOVED)))

    def by_clip(self) -> Places:
        """Return the table, the place and the row of each clip."""
        # A clip that somebody put into both tables by hand counts as kept.
        found = {row.audio: (REMOVED, place, row) for place, row in enumerate(self.removed)}
        return found | {row.audio: (TABLE, place, row) for place, row in enumerate(self.kept)}

    def with_changes(self, changes: Iterable[RowChange]) -> Tables:
        """Return the tables as they are after some changes."""
        changes = list(changes)
        edits: dict[str, list[RowChange]] = {}
        for change in changes:
            if change.field != PLACE:
                edits.setdefault(change.clip, []).append(change)
        # Fields first, then places: a row that moves takes its new text along.
        moves = {change.clip: change for change in changes if change.field == PLACE}
        now = {
            TABLE: [_edited(row, edits.get(row.audio, ())) for row in self.kept],
            REMOVED: [_edited(row, edits.get(row.audio, ())) for row in self.removed],
        }
        moved = {row.audio: row for rows in now.values() for row in rows if row.audio in moves}
        left = {name: [row for row in rows if row.audio not in moves] for name, rows in now.items()}
        # In order of their places: each is right for the rows that stand before it.
        for clip, change in sorted(moves.items(), key=lambda one: (one[1].goes is None, one[1].goes or 0)):
            rows = left[change.after]
            rows.insert(len(rows) if change.goes is None else change.goes, moved[clip])
        return Tables(tuple(left[TABLE]), tuple(left[REMOVED]))


def value_of(table: str, row: ClipRow, field: str) -> Any:  # noqa: ANN401 - a plain value
    """Return what a row says in a field that changes."""
    if field == PLACE:
        return table
    return row.facts.get(field) if field in _FACTS else getattr(row, field)


def read_journal(folder: CorpusFolder) -> list[RowChange]:
    """Return every change that was made of a folder.

    Raises:
        DataError: naming the line that is not a change.
    """
    file = folder.path / JOURNAL
    found: list[RowChange] = []
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    # Not splitlines: a text may hold what that takes for the end of a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        try:
            found.append(RowChange(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{file}:{number} is no change: {error}. Move the file away to begin a new one.") from None
    return found


def commit(
    folder: CorpusFolder, changes: Sequence[RowChange], tables: Tables, journal: Sequence[RowChange]
) -> dict[str, float]:
    """Write the tables after some changes, and the changes, in one step; return seconds by fate."""
    # Whole, not appended: it changes together with the tables, or not at all.
    lines = "".join(f"{change.as_line()}\n" for change in (*journal, *changes))
    return folder.write(tables.kept, removed=tables.removed, beside={JOURNAL: lines})


def next_number(journal: Sequence[RowChange]) -> int:
    """Return the number of a new change."""
    return max((change.change for change in journal), default=0) + 1


def undo(journal: Sequence[RowChange], tables: Tables, which: str, *, time: str) -> list[RowChange]:
    """Return the changes that bring back the state before one.

    Args:
        journal: all changes so far.
        tables: as they are.
        which: a number, or ``last``: the newest that is not undone.
        time: of now.

    Raises:
        ConfigError: if there is no such change, or it is undone already.
        DataError: if a later change touched the same field; says which.
    """
    undone = _undone(journal)
    number = _asked(journal, undone, which)
    rows = tables.by_clip()
    of_number = [change for change in journal if change.change == number]
    # By field: a table that takes out thousands of rows is undone without reading the journal for each of them.
    of_field: defaultdict[tuple[str, str], list[RowChange]] = defaultdict(list)
    for change in journal:
        of_field[change.clip, change.field].append(change)
    faults = [
        fault for change in of_number if (fault := _touched(change, of_field[change.clip, change.field], undone, rows))
    ]
    if faults:
        raise DataError(f"Change {number} cannot be undone, and nothing was changed:\n" + "\n".join(faults[:10]))
    new = next_number(journal)
    return [_inverse(change, rows, new, time) for change in of_number]


def _inverse(change: RowChange, rows: Places, number: int, time: str) -> RowChange:
    back = replace(change, change=number, time=time, before=change.after, after=change.before, undoes=change.change)
    return replace(back, stood=rows[change.clip][1], goes=change.stood) if change.field == PLACE else back


def _undone(journal: Sequence[RowChange]) -> dict[int, int]:
    """Return which changes are undone, and by which; one that undid another counts as undone with it."""
    by = {change.change: change.undoes for change in journal}
    undone: dict[int, int] = {}
    # In order, since what undid a change may have been undone later.
    for number, undoes in sorted(by.items()):
        if undoes is not None:
            # Undoing what undid a change does that one again.
            undone.pop(by.get(undoes) or 0, None)
            undone[undoes] = number
    return undone


def _asked(journal: Sequence[RowChange], undone: Mapping[int, int], which: str) -> int:
    by = {change.change: change.undoes for change in journal}
    if which == "last":
        # As in an editor: last, given again, goes one further back, and does not undo the undoing.
        left = [number for number, undoes in by.items() if number not in undone and undoes is None]
        if not left:
            raise ConfigError("There is no change to undo. 'tts-train corpus apply DIR --table FILE' makes one.")
        return max(left)
    if not which.isdecimal() or int(which) not in by:
        known = f"The changes are 1 to {max(by)}." if by else "No change was made yet."
        raise ConfigError(f"--undo {which}: there is no such change. {known} Give a number, or: last")
    if int(which) in undone:
        raise ConfigError(f"Change {which} is undone already, by change {undone[int(which)]}.")
    return int(which)


def _touched(
    change: RowChange,
    of_field: Sequence[RowChange],
    undone: Mapping[int, int],
    rows: Places,
) -> str:
    """Say what stands against undoing a change; empty if nothing."""
    if change.clip not in rows:
        return f"{change.clip} is no clip of this folder any more."
    for later in of_field:
        # What was undone, and what undid it, leave the field as it was.
        if later.change > change.change and later.change not in undone and (later.undoes or 0) not in undone:
            return f"{change.clip}: change {later.change} touched {change.field}, too. Undo that first."
    # Other commands keep no journal; what they changed shows in the value.
    table, _, row = rows[change.clip]
    if value_of(table, row, change.field) != change.after:
        return f"{change.clip}: {change.field} was changed by another command since."
    return ""


def _edited(row: ClipRow, changes: Sequence[RowChange] | tuple[()]) -> ClipRow:
    for change in changes:
        if change.field in _FACTS:
            facts = {name: value for name, value in row.facts.items() if name != change.field}
            row = replace(row, facts={**facts, change.field: change.after} if change.after is not None else facts)
        else:
            row = replace(row, **{change.field: change.after})
    return row
