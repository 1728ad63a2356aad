"""``tts-train corpus review``: a table and a page of all clips, the most suspicious first, for a person to correct."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tts_train.contract.reports import Report
from tts_train.corpus.language import EXTRA, can_detect
from tts_train.curation.folder import WORK, CorpusFolder, account
from tts_train.curation.job import CorpusVerb
from tts_train.curation.review.changes import Tables, read_journal
from tts_train.curation.review.edits import find_edits
from tts_train.curation.review.page import PageOptions, page_text
from tts_train.curation.review.reading import read_table
from tts_train.curation.review.suspicion import judge
from tts_train.curation.review.table import Shown, table_text
from tts_train.curation.review.usual import Usual
from tts_train.disk.files import disk_errors, hash_file, write_atomically, write_json
from tts_train.errors import ConfigError, DataError, TTSTrainError, extra_words, quoted
from tts_train.progress import Progress, write_line

FOLDER, TABLE_FILE, PAGE_FILE = "review", "review.csv", "review.html"
SUSPICIOUS = 0.5
"""Suspicion from which on a row is as likely wrong as right; the report counts those."""
_WRITTEN = "review.json"
"""Below ``.work``: hashes of the tables that were written, so that one that a person edited is known."""


@dataclass(kw_only=True)
class CorpusReview(CorpusVerb):
    """Write a table and a page with a player for each clip, the most suspicious first, for a person to correct."""

    positional: ClassVar[str] = "folder"
    positional_help: ClassVar[str] = "corpus folder, as slice or merge made it"

    folder: Path
    out: Path | None = None
    """Folder for review.csv and review.html; by default ``review`` in the corpus folder."""
    limit: int | None = None
    """Show only so many clips, those with the highest suspicion; rows that are not shown stay as they are."""

    def run(self) -> Report:
        """Write both files and report what looks wrong.

        Raises:
            ConfigError: if the table that is there holds changes that were not applied.
        """
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit} shows no clip. Give 1 or more, or leave it out.")
        folder = CorpusFolder.open(self.folder)
        out = self.out or self.folder / FOLDER
        if out.exists() and not out.is_dir():
            raise ConfigError(f"--out {out} is a file. Give a folder.")
        with folder.holding():
            tables = Tables.read(folder)
            if not tables.kept and not tables.removed:
                raise DataError(f"{self.folder} has no rows, so there is nothing to review.")
            # All rows, also with a limit: which are the most suspicious is known when all are judged.
            shown = self._judged(folder, tables)
            self._require_applied(folder, tables, out / TABLE_FILE)
            some = shown if self.limit is None else shown[: self.limit]
            with disk_errors(out):
                out.mkdir(parents=True, exist_ok=True)
                # Excel knows UTF-8 by the mark, and wants its own line ends within a file as it wrote them.
                write_atomically(out / TABLE_FILE, table_text(some), newline="")
                options = PageOptions(corpus=self.folder, out=out, clips=[each.row for each in shown])
                write_atomically(out / PAGE_FILE, page_text(some, options), newline="")
                self._remember(folder, out / TABLE_FILE)
            seconds = account(tables.kept, tables.removed, folder.recordings())
        return Report(more={**self._told(shown, some, out), "seconds": seconds, "next": self._onward(out)})

    def _judged(self, folder: CorpusFolder, tables: Tables) -> list[Shown]:
        """Return all rows, the most suspicious first; those that were taken out are last."""
        if not can_detect():
            write_line(
                "Languages are not told from the texts, since the detector is not installed: "
                f"pip install {extra_words(EXTRA)}"
            )
        # Of the rows that are kept: what was taken out was not usual.
        usual = Usual.of(tables.kept)
        shown: list[Shown] = []
        with Progress("Looking at texts", len(tables.kept) + len(tables.removed)) as progress:
            for rows, removed in ((tables.kept, False), (tables.removed, True)):
                for row in rows:
                    verdict = judge(row, usual, has_clip=folder.clip(row).is_file())
                    shown.append(Shown(row, verdict, removed))
                    progress.advance()
        # Stable: rows of one suspicion stay in the corpus' order, which is that of the recording.
        return sorted(shown, key=lambda each: (each.removed, each.verdict.reviewed, -each.verdict.suspicion))

    def _require_applied(self, folder: CorpusFolder, tables: Tables, table: Path) -> None:
        """Refuse to write over a table that a person worked on."""
        # By hash first: a table as it was written has nothing to lose, however the rows have changed since.
        if not table.is_file() or hash_file(table) in _written(folder):
            return
        try:
            edits = find_edits(read_table(table), tables, read_journal(folder), change=0, time="")
            count = len(edits.changes)
            left = f"{count} change{'s' if count > 1 else ''}" if count and not edits.faults else "changes"
            if not edits.changes and not edits.faults:
                return
        # Whatever is wrong with it, somebody made it.
        except TTSTrainError:
            left = "changes"
        apply = quoted("tts-train", "corpus", "apply", self.folder, "--table", table)
        raise ConfigError(
            f"{table} holds {left} not applied yet. Apply it with: {apply} - or move it away, or write the new "
            "table elsewhere with --out."
        )

    def _remember(self, folder: CorpusFolder, table: Path) -> None:
        written = [*_written(folder), hash_file(table)]
        (folder.path / WORK).mkdir(exist_ok=True)
        # A table that was written long ago was edited or applied since.
        write_json(folder.path / WORK / _WRITTEN, list(dict.fromkeys(written))[-100:])

    def _told(self, shown: Sequence[Shown], some: Sequence[Shown], out: Path) -> dict[str, object]:
        kept = [each for each in shown if not each.removed]
        open_rows = [each for each in kept if not each.verdict.reviewed]
        why = Counter(kind for each in open_rows for kind in {reason.kind for reason in each.verdict.reasons})
        return {
            "rows": len(kept),
            "shown": len(some),
            "reviewed": len(kept) - len(open_rows),
            "removed": len(shown) - len(kept),
            "suspicious": sum(each.verdict.suspicion >= SUSPICIOUS for each in open_rows),
            "why": dict(why.most_common()),
            "table": str(out / TABLE_FILE),
            "page": str(out / PAGE_FILE),
        }

    def _onward(self, out: Path) -> list[str]:
        return [quoted("tts-train", "corpus", "apply", self.folder, "--table", out / TABLE_FILE)]


def _written(folder: CorpusFolder) -> list[str]:
    try:
        found = json.loads((folder.path / WORK / _WRITTEN).read_text(encoding="utf-8"))
    # Not there, or damaged: then a table is compared with the rows.
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
