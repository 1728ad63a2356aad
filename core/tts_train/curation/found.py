"""Names of findings in the rows of a corpus folder, where ``corpus review`` sorts by them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow

FINDINGS = "findings"
"""Fact of a row: names of what ``check --deep`` found."""


def note_findings(path: Path, findings: Mapping[str, Sequence[str]]) -> None:
    """Keep names of findings with the rows of a corpus folder.

    Args:
        path: the folder.
        findings: names by the clip's path below the folder; rows that are not in it were not looked at, and stay.

    Raises:
        RunLockedError: if another command works on the folder.
    """
    folder = CorpusFolder.open(path)
    with folder.holding():
        rows = folder.rows()
        noted = [_noted(row, findings[row.audio]) if row.audio in findings else row for row in rows]
        if noted != rows:
            folder.write(noted)


def _noted(row: ClipRow, names: Sequence[str]) -> ClipRow:
    others = {name: value for name, value in row.facts.items() if name != FINDINGS}
    # No empty list: a row without findings looks as it did before anybody looked.
    return replace(row, facts={**others, FINDINGS: list(names)} if names else others)


def drop_table(clips: Iterable[str]) -> str:
    """Return a table by which ``corpus apply`` takes clips out."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("clip", "action"))
    writer.writerows((clip, "drop") for clip in clips)
    return file.getvalue()
