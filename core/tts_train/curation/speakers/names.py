"""Names of speakers: those of the corpus stay, clusters get names where there are none, a person's table rules."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tts_train.corpus.rows.text import clean_text, require_utf8
from tts_train.curation.row import ClipRow
from tts_train.curation.speakers.clusters import Labels
from tts_train.errors import DataError

TABLE = "speakers.csv"
BY, BEFORE, CLUSTER, LIKENESS, OTHER = (
    "speaker_by", "speaker_before", "speaker_cluster", "speaker_likeness", "speaker_like_other",
)  # fmt: skip
"""Facts: who named the speaker where it was not the corpus, the name before that, the cluster from 1 (0: none), the
likeness to the speaker's other clips, and the name of the speaker whom a clip with another name sounds like."""
FROM_CLUSTER, PERSON = "cluster", "person"
_COLUMNS = ("cluster", "speaker", "clips", "seconds", "clip_1", "clip_2", "clip_3", "name")
_MAJORITY = 0.9
"""Share of a cluster's named clips that have one name, from which on its other clips get that name."""
_FORMULAS = "=+-@\t\r"


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One line of the table."""

    cluster: int
    """From 1."""
    speaker: str
    """The name of most of its clips."""
    clips: int
    seconds: float
    typical: Sequence[str]
    """Clips to hear."""


def is_given(row: ClipRow) -> bool:
    """Tell whether a row's speaker was named by the corpus or a person."""
    return row.speaker is not None and row.facts.get(BY) != FROM_CLUSTER


def name_clusters(rows: Sequence[ClipRow], labels: Labels) -> tuple[list[str | None], dict[int, str]]:
    """Return each row's speaker, and whom a row sounds like that was given another name.

    A given name belongs to the cluster that most clips with it are in. Rows without one get the name that belongs to
    their cluster, if nine in ten of its named clips have it; else ``speaker-1`` and so on, by size.
    """
    given = [row.speaker if is_given(row) else None for row in rows]
    inside = [Counter[str]() for _ in _all(labels)]
    for name, label in zip(given, labels.tolist(), strict=True):
        if name and label >= 0:
            inside[label][name] += 1
    known = {name for names in inside for name in names}
    # Of one clip alone a name would spread over a cluster of others: it must be at home there.
    home = {name: max(_all(labels), key=lambda label: inside[label][name]) for name in known}
    names = _names(inside, home, taken={name for name in given if name})
    found = [name or names.get(int(label)) for name, label in zip(given, labels, strict=True)]
    sizes = Counter(labels.tolist())
    others: dict[int, str] = {}
    for at, (name, label) in enumerate(zip(given, labels.tolist(), strict=True)):
        away = name is not None and label >= 0 and home[name] != label
        # A speaker may well have two clusters, of two microphones: the name then is that of most clips of both.
        if name and away and inside[label][name] * 2 < sizes[label]:
            others[at] = names[label]
    return found, others


def _names(inside: Sequence[Counter[str]], home: Mapping[str, int], *, taken: set[str]) -> dict[int, str]:
    """Return what clusters are called, by what their named clips are called and where each name is at home."""
    names: dict[int, str] = {}
    number = 0
    for label, here in enumerate(inside):
        own = [name for name, _ in here.most_common() if home[name] == label]
        if own and here[own[0]] >= _MAJORITY * here.total():
            names[label] = own[0]
            continue
        number += 1
        while f"speaker-{number}" in taken:
            number += 1
        names[label] = f"speaker-{number}"
    return names


def _all(labels: Labels) -> range:
    return range(int(labels.max(initial=-1)) + 1)


def write_table(voices: Iterable[Voice]) -> str:
    """Return the table as CSV, with an empty column for names."""
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for voice in voices:
        clips = [*voice.typical, "", "", ""][:3]
        writer.writerow([voice.cluster, _cell(voice.speaker), voice.clips, round(voice.seconds, 1), *clips, ""])
    return held.getvalue()


def _cell(value: str) -> str:
    # A spreadsheet runs what begins so; behind an apostrophe it is text, which reading takes away again.
    return f"'{value}" if value.startswith(tuple(_FORMULAS)) else value


def read_names(file: Path) -> dict[int, tuple[str, str]]:
    """Return (name now, name given) by cluster from an edited table, for clusters that were given one.

    Raises:
        DataError: if it is no such table, or a cluster stands there twice; says which line.
    """
    if not file.is_file():
        raise DataError(f"--names {file} is no file. Write one with 'corpus speakers' without --names, and edit it.")
    require_utf8(file)
    text = file.read_text(encoding="utf-8-sig")
    # Spreadsheets of half of the world write semicolons.
    mark = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
    if not {"cluster", "speaker", "name"} <= set(reader.fieldnames or ()):
        raise DataError(f"--names {file} needs the columns cluster, speaker and name, as in {TABLE}.")
    found: dict[int, tuple[str, str]] = {}
    for line, row in enumerate(reader, start=2):
        name = clean_text(row["name"] or "")[0]
        if not name:
            continue
        try:
            number = int(row["cluster"] or "")
        except ValueError:
            raise DataError(f"{file}:{line} has no number in the column cluster: {row['cluster']!r}.") from None
        if number in found:
            raise DataError(f"{file}:{line} names cluster {number} again. Leave one of the lines.")
        found[number] = ((row["speaker"] or "").removeprefix("'"), name.removeprefix("'"))
    return found


def cluster_of(row: ClipRow) -> int:
    """Return the number of a row's cluster; 0 is none, as is anything that somebody wrote there by hand."""
    number = row.facts.get(CLUSTER, 0)
    return number if isinstance(number, int) else 0


def renamed(rows: Sequence[ClipRow], names: Mapping[int, tuple[str, str]], *, of: str) -> tuple[list[ClipRow], int]:
    """Return rows with the names that a person gave, and how many were changed.

    A row is renamed that has the cluster's number and the name that the table shows for it: a clip that was given
    another name keeps it.

    Raises:
        DataError: if the table is of other clusters than the rows.
    """
    known = {cluster_of(row) for row in rows}
    if unknown := sorted(names.keys() - known):
        raise DataError(f"--names {of} names cluster {unknown[0]}, which no row has. Write it anew, and edit that.")
    found, changed = list[ClipRow](), 0
    for row in rows:
        shown, name = names.get(cluster_of(row), (None, ""))
        if shown is None or (row.speaker or "") != shown or row.speaker == name:
            found.append(row)
            continue
        facts = {**row.facts, BY: PERSON, BEFORE: row.speaker}
        found.append(replace(row, speaker=name, facts=facts))
        changed += 1
    return found, changed
