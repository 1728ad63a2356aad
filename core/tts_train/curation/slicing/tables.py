"""What cut recordings do to the rows that a corpus has: new ones come, those that a person worked on stay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from tts_train.curation.folder import CLIPS, REMOVED, REPLACED, CorpusFolder, RecordingAccount
from tts_train.curation.row import ClipRow, Cut
from tts_train.curation.slicing.recording import CutRecording, Recording

SUBTITLES = "subtitles"


@dataclass(frozen=True, kw_only=True)
class SlicedTables:
    """What is to be written, and what happens to the files of clips."""

    rows: list[ClipRow]
    removed: list[ClipRow]
    moved: dict[str, str]
    """Clips of rows that no cut gives any more but that a person or a recogniser worked on: old path to new."""
    dropped: list[str]
    """Clips of rows that were as they were cut, and are cut otherwise now."""

    def set_aside(self, row: ClipRow) -> None:
        """Keep a row that no cut gives any more among the removed ones, with its clip under a name of its own."""
        cut = row.cut or Cut(recording=row.audio, start=0.0, end=row.seconds)
        self.moved[row.audio] = _free_name(row)
        facts = {**row.facts, REPLACED: {"recording": cut.recording, "start": cut.start, "end": cut.end}}
        self.removed.append(replace(row, audio=self.moved[row.audio], cut=None, facts=facts))


def digest(row: ClipRow) -> str:
    """Return what tells whether anything but the measured facts of a row was changed since."""
    # Facts are what commands measure; they are measured again.
    plain = {name: value for name, value in row.as_dict().items() if name != "facts"}
    return xxhash.xxh3_64_hexdigest(json.dumps(plain, sort_keys=True).encode())


def rows_of(recording: Recording, cut: CutRecording, language: str | None) -> list[ClipRow]:
    """Return the rows of a recording as they were cut."""
    return [
        ClipRow(
            audio=one.audio,
            # Not rounded: the seconds of a ledger add up to the sample.
            seconds=(one.end - one.start) / cut.rate,
            text=one.text,
            speaker=one.speaker or recording.speaker,
            language=cut.language or language,
            text_by=SUBTITLES if one.text else None,
            cut=Cut(recording=recording.name, start=one.start / cut.rate, end=one.end / cut.rate),
            facts={"margins": [one.lead, one.tail]},
        )
        for one in cut.clips
    ]


def account_of(recording: Recording, cut: CutRecording) -> RecordingAccount:
    """Return the ledger's entry."""
    fates = {name: samples / cut.rate for name, samples in cut.fates.items()}
    seconds = cut.frames / cut.rate if cut.rate else 0.0
    return RecordingAccount(
        recording=recording.name,
        seconds=seconds,
        hash=cut.hash,
        fates=fates,
        refused=cut.refused,
        detail=cut.detail,
    )


def merge(
    folder: CorpusFolder, new: Mapping[str, Sequence[ClipRow]], written: Mapping[str, Sequence[str]]
) -> SlicedTables:
    """Put new rows where those of the same recordings were.

    Args:
        folder: the corpus as it is.
        new: rows by recording.
        written: digests of each row as earlier commands wrote it, by clip.
    """
    # By stretch, not by name: a name has the start alone.
    fresh = {_stretch(row): row for several in new.values() for row in several}
    names = {row.audio for row in fresh.values()}
    tables = SlicedTables(rows=[], removed=[], moved={}, dropped=[])
    for row in folder.rows(REMOVED):
        # What a person took out stays out.
        if row.cut is None or row.cut.recording not in new or fresh.pop(_stretch(row), None) is not None:
            tables.removed.append(row)
        else:
            tables.set_aside(row)
    for row in folder.rows():
        if row.cut is None or row.cut.recording not in new:
            tables.rows.append(row)
        elif (same := fresh.pop(_stretch(row), None)) is not None:
            tables.rows.append(_renewed(row, same) if digest(row) in written.get(row.audio, ()) else _filled(row, same))
        elif digest(row) in written.get(row.audio, ()):
            tables.dropped.extend([row.audio] if row.audio not in names else [])
        else:
            tables.set_aside(row)
    # What no earlier row had is new.
    tables.rows.extend(fresh.values())
    tables.rows.sort(key=lambda row: (row.cut.recording, row.cut.start) if row.cut else ("", 0.0))
    return tables


def _renewed(row: ClipRow, same: ClipRow) -> ClipRow:
    """Return a row as it is cut now; what commands measured stays, for they measure again what has changed."""
    return replace(same, facts={**row.facts, **same.facts})


def _filled(row: ClipRow, same: ClipRow) -> ClipRow:
    """Return a row that somebody worked on; a text that it lacks may have come with subtitles since."""
    if row.text or not same.text:
        return replace(row, seconds=same.seconds, cut=same.cut, facts={**same.facts, **row.facts})
    return replace(row, text=same.text, text_by=same.text_by, cut=same.cut, facts={**same.facts, **row.facts})


def _stretch(row: ClipRow) -> tuple[str, int, int]:
    """Return where a row was cut, to the millisecond."""
    cut = row.cut or Cut(recording=row.audio, start=0.0, end=row.seconds)
    return cut.recording, round(cut.start * 1000), round(cut.end * 1000)


def _free_name(row: ClipRow) -> str:
    # By content of the row: the same command again gives the same name.
    return f"{CLIPS}/kept_{digest(row)[:8]}_{Path(row.audio).name}"
