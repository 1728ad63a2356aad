"""``tts-train corpus apply``: brings an edited table into a corpus folder, or undoes what one brought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

from tts_train.contract.reports import Report
from tts_train.curation.folder import REMOVED, TABLE, CorpusFolder, account
from tts_train.curation.job import CorpusVerb
from tts_train.curation.review.changes import (
    PLACE,
    REVIEWED,
    TEXT,
    RowChange,
    Tables,
    commit,
    next_number,
    read_journal,
    undo,
)
from tts_train.curation.review.edits import MOST_FAULTS, Edits, find_edits
from tts_train.curation.review.reading import read_table
from tts_train.curation.review.suspicion import is_reviewed
from tts_train.curation.review.table import EDITED
from tts_train.errors import ConfigError, DataError, quoted
from tts_train.progress import write_line


@dataclass(kw_only=True)
class CorpusApply(CorpusVerb):
    """Bring an edited table into a corpus folder; every change is kept in changes.jsonl, and can be undone."""

    positional: ClassVar[str] = "folder"
    positional_help: ClassVar[str] = "corpus folder, as slice or merge made it"

    folder: Path
    table: Path | None = None
    """The edited table: review.csv as a spreadsheet saved it, or the file that the page saved."""
    undo: str | None = None
    """Bring back the state before a change, by its number, or ``last``; instead of --table."""
    dry_run: bool = False
    """Show what would change, and change nothing."""
    encoding: str | None = None
    """Encoding of a table that is neither UTF-8 nor UTF-16, such as cp1252."""

    def run(self) -> Report:
        """Apply the table, or undo a change, and report what became of the rows.

        Raises:
            ConfigError: if neither a table nor a change to undo is named, or both.
            DataError: naming the lines that cannot be applied, or the change that stands against undoing.
        """
        if (self.table is None) == (self.undo is None):
            raise ConfigError(
                "corpus apply takes an edited table or a change to undo: "
                f"{quoted('tts-train', 'corpus', 'apply', self.folder)} --table FILE, or: --undo last"
            )
        folder = CorpusFolder.open(self.folder)
        # Held before anything is read: what a table is compared with must be what is written over.
        with folder.holding():
            tables, journal = Tables.read(folder), read_journal(folder)
            time = datetime.now(timezone.utc).isoformat(timespec="seconds")
            facts: dict[str, Any] = {}
            if self.undo is not None:
                changes = undo(journal, tables, self.undo, time=time)
            else:
                edits, unused = self._edits(tables, journal, time)
                changes = edits.changes
                if not changes:
                    # The likely mistake: the table that review wrote, not the one that the page saved.
                    write_line(f"{self.table} changes nothing. The page saves its table where the browser puts files.")
                all_rows = len(tables.kept) + len(tables.removed)
                facts = {"in_table": edits.rows, "not_in_table": all_rows - edits.rows}
                facts |= {"columns_not_used": unused} if unused else {}
            # Undoing is a change like any other, so that it can be undone as well.
            after = tables.with_changes(changes)
            if changes and not self.dry_run:
                seconds = commit(folder, changes, after, journal)
            else:
                seconds = account(after.kept, after.removed, folder.recordings())
        return Report(more={**self._told(changes, tables, after), **facts, "seconds": seconds, **self._onward(changes)})

    def _edits(self, tables: Tables, journal: Sequence[RowChange], time: str) -> tuple[Edits, list[str]]:
        assert self.table is not None
        table = read_table(self.table, encoding=self.encoding)
        edits = find_edits(table, tables, journal, change=next_number(journal), time=time)
        if edits.faults:
            # One sentence in place of a thousand: not a line belongs here.
            if table.lines and not edits.rows:
                raise DataError(
                    f"{self.table} belongs to another folder: {self.folder} has none of its clips. Nothing was changed."
                )
            left = len(edits.faults) - MOST_FAULTS
            more = [f"and {left} more lines"] if left > 0 else []
            lines = "\n".join(["", *edits.faults[:MOST_FAULTS], *more])
            raise DataError(f"{self.table} cannot be applied, and nothing was changed:{lines}")
        return edits, table.unused

    def _told(self, changes: Sequence[RowChange], before: Tables, after: Tables) -> dict[str, Any]:
        by_field = Counter(change.field for change in changes)
        fates = Counter(change.after for change in changes if change.field == PLACE)
        touched = {change.clip for change in changes}
        told = {
            "rows": len(after.kept),
            # What follows from another field is no change of a person's.
            "changed": {name: by_field[name] for name in EDITED if by_field[name]},
            "texts_emptied": sum(change.field == TEXT and not change.after.strip() for change in changes),
            "marked_reviewed": sum(change.field == REVIEWED and change.after is True for change in changes),
            "dropped": fates[REMOVED],
            "brought_back": fates[TABLE],
            "unchanged": len(before.kept) + len(before.removed) - len(touched),
            "reviewed": sum(map(is_reviewed, after.kept)),
            "removed": len(after.removed),
        }
        if self.dry_run:
            shown = ("clip", "field", "before", "after")
            return {
                "dry_run": True,
                **told,
                "changes": [{name: getattr(change, name) for name in shown} for change in changes],
            }
        return {"change": changes[0].change, **told} if changes else told

    # What comes next differs: a dry run is followed by the same command without it.
    def _onward(self, changes: Sequence[RowChange]) -> dict[str, Any]:
        if self.dry_run:
            asked = ["--undo", self.undo] if self.undo is not None else ["--table", self.table]
            encoding = ["--encoding", self.encoding] if self.encoding else []
            return {"next": [quoted("tts-train", "corpus", "apply", self.folder, *asked, *encoding)]}
        # What undid a change has a number, too; "last" would go one further back.
        which = "last" if self.undo is None else changes[0].change if changes else ""
        again = [quoted("tts-train", "corpus", "apply", self.folder, "--undo", which)] if changes else []
        return {"next": [quoted("tts-train", "check", self.folder, "--deep"), *again]}
