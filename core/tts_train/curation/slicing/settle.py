"""Brings what was cut into the corpus folder: tables, ledger and clips, so that a kill at any moment loses nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tts_train.curation.folder import WORK, CorpusFolder
from tts_train.curation.slicing.recording import CutRecording, Recording
from tts_train.curation.slicing.tables import SlicedTables, account_of, digest, merge, rows_of
from tts_train.disk.files import hash_file, patiently, write_json
from tts_train.errors import ConfigError, quoted

_STATE = "state.json"


@dataclass(kw_only=True)
class State:
    """What earlier commands cut."""

    recordings: dict[str, dict[str, str]] = field(default_factory=dict)
    """By name: the key of its cuts, its place, and what its clips' names begin with."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """Digest of each row as it was written, by clip; two while tables are being replaced."""

    @classmethod
    def read(cls, work: Path) -> State:
        """Return the state; an empty one where it was lost, by which every row counts as worked on."""
        try:
            found: Any = json.loads((work / _STATE).read_text(encoding="utf-8"))
            return cls(recordings=found["recordings"], rows=found["rows"])
        except (OSError, ValueError, TypeError, KeyError):
            return cls()

    def stems(self, folder: CorpusFolder) -> dict[str, str]:
        """Return what the names of clips begin with, by recording."""
        of_rows = {row.cut.recording: Path(row.audio).stem.rpartition("-")[0] for row in folder.rows() if row.cut}
        return {**of_rows, **{name: one["stem"] for name, one in self.recordings.items()}}

    def require_same(self, folder: CorpusFolder, names: Mapping[str, Path]) -> None:
        """Refuse a recording that has the name of another one whose clips are in the folder.

        Raises:
            ConfigError: with what to do.
        """
        hashes = {one.recording: one.hash for one in folder.recordings()}
        for name, path in names.items():
            before = self.recordings.get(name, {}).get("source")
            # Where the old one is gone the new one may be its new version, and its rows are matched by their stretches.
            other = before is not None and before != str(path.resolve()) and Path(before).is_file()
            if other and hash_file(path) != hashes.get(name):
                apart = folder.path.with_name(f"{folder.path.name}-2")
                again = quoted("tts-train", "corpus", "merge", folder.path, apart, "--out", f"{folder.path}-all")
                raise ConfigError(
                    f"{folder.path} has clips of another recording named {name}: {before}. Rename one of them, or "
                    f"choose another folder, such as --out {apart}, and join them with: {again}"
                )


@dataclass(kw_only=True)
class Settled:
    """What is in the corpus now."""

    tables: SlicedTables
    seconds: dict[str, float]
    unread: list[str]
    """Recordings that cannot be read any more, whose rows stay."""


def settle(
    folder: CorpusFolder, recordings: Sequence[Recording], cuts: Sequence[CutRecording], language: str | None
) -> Settled:
    """Write tables and ledger, then put the clips in place.

    A clip never takes the place of another while a row says otherwise: clips of rows that are kept are copied first,
    new ones follow the tables, and what the next command finds staged it puts in place.
    """
    work = folder.path / WORK / "slices"
    state = State.read(work)
    accounts = {one.recording: one for one in folder.recordings()}
    new, unread = {}, []
    for recording, cut in zip(recordings, cuts, strict=True):
        if cut.refused and recording.name in state.recordings:
            unread.append(recording.name)
            continue
        new[recording.name] = [] if cut.refused else rows_of(recording, cut, language)
        accounts[recording.name] = account_of(recording, cut)
    tables = merge(folder, new, state.rows)
    # Copied, not moved: until the tables are written the rows name the old place.
    for old, kept in tables.moved.items():
        if (folder.path / old).is_file() and not (folder.path / kept).is_file():
            shutil.copyfile(folder.path / old, folder.path / kept)
    fresh = {row.audio: digest(row) for rows in new.values() for row in rows}
    # Before the tables: after a kill, rows of either kind are known to be as they were cut.
    state.rows.update({audio: [*state.rows.get(audio, []), one] for audio, one in fresh.items()})
    done = [(one, cut) for one, cut in zip(recordings, cuts, strict=True) if not cut.refused]
    for recording, cut in done:
        # Clips of two cuts may have one name: until all are in place, they are those of neither.
        state.recordings[recording.name] = _place(recording, cut.key if cut.key == recording.applied else "")
    write_json(work / _STATE, vars(state))
    seconds = folder.write(tables.rows, removed=tables.removed, recordings=list(accounts.values()))
    for recording, cut in done:
        _put(folder.path, work / cut.key, cut, again=cut.key == recording.applied)
        state.recordings[recording.name] = _place(recording, cut.key)
    named = {row.audio for row in (*tables.rows, *tables.removed)}
    for old in {*tables.dropped, *tables.moved} - named:
        (folder.path / old).unlink(missing_ok=True)
        state.rows.pop(old, None)
    state.rows.update({audio: [one] for audio, one in fresh.items()})
    # Last: until then the next command puts in place what is still staged.
    write_json(work / _STATE, vars(state))
    _clear(work, state)
    return Settled(tables=tables, seconds=seconds, unread=unread)


def _place(recording: Recording, key: str) -> dict[str, str]:
    return {"key": key, "source": str(recording.path.resolve()), "stem": recording.stem}


def _put(out: Path, staged: Path, cut: CutRecording, *, again: bool) -> None:
    for clip in cut.clips:
        target, source = out / clip.audio, staged / clip.audio
        # By the same cut, what is there may have been edited by hand, and only what is missing is put back.
        if source.is_file() and not (again and target.is_file()):
            target.parent.mkdir(parents=True, exist_ok=True)
            patiently(lambda source=source, target=target: source.replace(target))  # type: ignore[misc]
    shutil.rmtree(staged, ignore_errors=True)


def _clear(work: Path, state: State) -> None:
    """Remove what no recording of the corpus was cut to."""
    keys = {one["key"] for one in state.recordings.values()}
    for path in work.iterdir():
        if path.stem not in keys and path.name != _STATE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
