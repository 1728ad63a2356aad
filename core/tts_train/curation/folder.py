"""A corpus folder: ``corpus.jsonl`` with the rows, ``ledger.json`` with the account of every second, and the clips."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tts_train.curation.row import PARTS, ClipRow
from tts_train.disk.files import as_json, disk_errors
from tts_train.disk.together import counting_file, finish_replacing, replace_together
from tts_train.errors import ConfigError, DataError, quoted

FORMAT, VERSION = "tts-train corpus", 1
TABLE = "corpus.jsonl"
LEDGER = "ledger.json"
REMOVED = "removed.jsonl"
"""Rows that a person took out, as they were; a table can bring them back."""
HELD_OUT = PARTS[1:]
"""Parts of a split; the rows of each also stand in a table of their own, ``validation.jsonl`` and ``test.jsonl``."""
CLIPS = "clips"
REFERENCES = "references"
"""Recordings by which voices are taken, where rows name some."""
LOCK = ".corpus.lock"
WORK = ".work"
"""What finished parts of a step gave, by content: the same command continues with them."""

REPLACED = "replaced"
"""Fact of a row whose recording is cut otherwise now: its sound is in other rows, which count its seconds."""
KEPT, GONE = "kept", "removed"
"""Fates of seconds that rows decide: in ``corpus.jsonl``, or in ``removed.jsonl``."""


@dataclass(frozen=True, kw_only=True)
class RecordingAccount:
    """What became of one recording, in seconds by fate; they add up to its length."""

    recording: str
    """Its path as the command saw it, below the folder that was named."""
    seconds: float = 0.0
    hash: str = ""
    """xxh3_128 of the file."""
    fates: Mapping[str, float] = field(default_factory=dict)
    """Seconds that are in no row, by fate: ``silence``, ``too_short``, ``too_long``, ``not_speech``."""
    refused: str = ""
    """Why nothing of it could be read: a name from :data:`tts_train.corpus.reasons.REASONS`; empty where it was."""
    detail: str = ""


class CorpusFolder:
    """A folder that the verbs of ``tts-train corpus`` work on, and that ``prepare`` of every backend reads.

    Args:
        path: the folder; :meth:`open` refuses any that the verbs did not make.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> CorpusFolder:
        """Return the folder.

        Raises:
            DataError: if it is not a corpus folder, or a newer version wrote it; says what to type.
        """
        if not path.exists():
            raise DataError(f"There is nothing at {path}. Name a corpus folder, as slice or merge made it.")
        if not counting_file(path, TABLE).is_file():
            made = Path(f"{path.with_suffix('') if path.is_file() else path}-corpus")
            raise DataError(
                f"{path} is not a corpus folder (it has no {TABLE}). Make one of long recordings with: "
                f"{quoted('tts-train', 'corpus', 'slice', path, '--out', made)} or of clips with texts with: "
                f"{quoted('tts-train', 'corpus', 'merge', path, '--out', made)}"
            )
        folder = cls(path)
        folder._ledger()
        return folder

    def rows(self, name: str = TABLE) -> list[ClipRow]:
        """Return the rows of ``corpus.jsonl``, or of the other table ``removed.jsonl``.

        Raises:
            DataError: naming the line that is not a row, or a clip with two rows.
        """
        file = self.path / name
        if not counting_file(self.path, name).is_file():
            return []
        found = [_row(line, f"{file}:{number}") for number, line in _lines(counting_file(self.path, name))]
        counts = Counter(row.audio for row in found)
        if twice := next((audio for audio, count in counts.items() if count > 1), None):
            raise DataError(f"{file} has {counts[twice]} rows for {twice}. Leave one of them.")
        return found

    def recordings(self) -> list[RecordingAccount]:
        """Return what became of each recording."""
        return [RecordingAccount(**one) for one in self._ledger().get("recordings", [])]

    def write(
        self,
        rows: Sequence[ClipRow],
        *,
        removed: Sequence[ClipRow] | None = None,
        recordings: Sequence[RecordingAccount] | None = None,
        beside: Mapping[str, str | None] | None = None,
    ) -> dict[str, float]:
        """Replace the tables and the ledger, all in one step; what is None stays as it is.

        Args:
            rows: of ``corpus.jsonl``.
            removed: of ``removed.jsonl``.
            recordings: of the ledger.
            beside: contents of further files of the folder that change with them, by name; None takes one away.

        Returns:
            Seconds by fate, over all recordings; ``kept`` and ``removed`` are those of the rows.

        Raises:
            DiskError: if the disk is full.
        """
        removed = self.rows(REMOVED) if removed is None else removed
        recordings = self.recordings() if recordings is None else recordings
        seconds = account(rows, removed, recordings)
        told = [asdict(one) for one in recordings]
        ledger = {"format": FORMAT, "version": VERSION, "seconds": seconds, "rows": len(rows), "recordings": told}
        files: dict[str, str | None] = {LEDGER: as_json(ledger, indent=2) + "\n"}
        if removed or (self.path / REMOVED).exists():
            files[REMOVED] = _table(removed)
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            # Together: a row that moves between the tables is in one of them after a kill, and the seconds add up.
            replace_together(self.path, {**files, TABLE: _table(rows), **_parts(rows), **(beside or {})})
        return seconds

    @contextmanager
    def holding(self, *, option: str = "corpus folder") -> Iterator[None]:
        """Hold the folder against other writers; it is made where it is not there.

        Args:
            option: what names the folder, for messages.

        Raises:
            RunLockedError: naming the process that holds it.
        """
        from tts_train.run.lock import RunLock

        with disk_errors(self.path, option=option):
            self.path.mkdir(parents=True, exist_ok=True)
        with RunLock(self.path / LOCK, option=option):
            finish_replacing(self.path)
            yield

    def clip(self, row: ClipRow) -> Path:
        """Return the file of a row's clip.

        Raises:
            DataError: if its path leads out of the folder.
        """
        return self._inside(row.audio)

    def reference(self, row: ClipRow) -> Path | None:
        """Return the file of a row's reference, whether it is there or not; None where the row names none.

        Raises:
            DataError: if its path leads out of the folder.
        """
        return None if row.reference is None else self._inside(row.reference)

    def _inside(self, name: str) -> Path:
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise DataError(f"{self.path / TABLE} names {name}, which lies outside of the folder.")
        return path

    def _ledger(self) -> dict[str, Any]:
        file = counting_file(self.path, LEDGER)
        if not file.exists():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is damaged: {error}. Remove it; the rows in {TABLE} stay as they are.") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise DataError(f"{file} is not the ledger of a corpus folder. Move it away.")
        fault = _ledger_fault(found)
        if fault:
            raise DataError(f"{file} is damaged: {fault}. Remove it; the rows in {TABLE} stay as they are.")
        if found["version"] > VERSION:
            raise DataError(f"{file} was written by a newer tts-train (version {found['version']}). Install that one.")
        return found


def is_corpus_folder(path: Path) -> bool:
    """Tell whether the verbs of ``tts-train corpus`` wrote a folder, by its table and its ledger."""
    return all(counting_file(path, name).is_file() for name in (TABLE, LEDGER))


def require_new(out: Path) -> None:
    """Refuse an ``--out`` that holds something which is no corpus folder.

    Raises:
        ConfigError: with what is in the way.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Give a new folder.")
    # The lock alone is what a command leaves that was killed at its beginning.
    other = out.is_dir() and any(path.name != LOCK for path in out.iterdir())
    if other and not ((out / TABLE).exists() or (out / WORK).is_dir()):
        raise ConfigError(f"--out {out} is not empty. Choose another folder, so that nothing is overwritten.")


def as_json_line(values: Mapping[str, Any]) -> str:
    """Return a line of a table, in the letters of its texts where a file can hold them."""
    # Facts may come from a table that another program wrote, and are written as they were read.
    return as_json(values, allow_nan=True)


def account(
    rows: Iterable[ClipRow], removed: Iterable[ClipRow], recordings: Iterable[RecordingAccount]
) -> dict[str, float]:
    """Return seconds by fate, the largest first behind ``kept``."""
    seconds: dict[str, float] = {KEPT: sum(row.seconds for row in rows)}
    if gone := sum(row.seconds for row in removed if REPLACED not in row.facts):
        seconds[GONE] = gone
    for recording in recordings:
        for fate, lost in recording.fates.items():
            seconds[fate] = seconds.get(fate, 0.0) + lost
    ranked = sorted(seconds.items(), key=lambda one: (one[0] != KEPT, -one[1], one[0]))
    return {fate: round(value, 3) for fate, value in ranked}


def _ledger_fault(ledger: Mapping[str, Any]) -> str:
    """Say what of a ledger is of another kind than was written; empty if nothing."""
    if not isinstance(ledger.get("version"), int):
        return f"its version is {ledger.get('version')!r}"
    # A newer one may hold what is not known here.
    if ledger["version"] > VERSION:
        return ""
    try:
        for one in ledger.get("recordings", []):
            account = RecordingAccount(**one)
            if not all(isinstance(value, (int, float)) for value in (account.seconds, *account.fates.values())):
                return f"the seconds of {account.recording} are no numbers"
    except (TypeError, AttributeError) as error:
        return f"its recordings are none ({error})"
    return ""


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    from tts_train.corpus.rows.text import read_lines, require_utf8

    require_utf8(file)
    return ((number, line) for number, line in read_lines(file) if line.strip())


def _row(line: str, origin: str) -> ClipRow:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{origin} is no JSON: {error}. Correct or remove the line.") from None
    try:
        return ClipRow.from_dict(row if isinstance(row, dict) else {})
    except DataError as error:
        raise DataError(f"{origin} is {error}. Correct or remove the line.") from None


def _table(rows: Iterable[ClipRow]) -> str:
    return "".join(as_json_line(row.as_dict()) + "\n" for row in rows)


def _parts(rows: Sequence[ClipRow]) -> dict[str, str | None]:
    """Keep the tables of held-out rows in step: ``prepare`` and ``eval`` are given those by name."""
    held = {part: [row for row in rows if row.split == part] for part in HELD_OUT}
    return {f"{part}.jsonl": _table(found) if found else None for part, found in held.items()}
