"""``corpus merge``: corpora in any layout, and corpus folders, into one corpus folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, ClassVar

from tts_train.contract.reports import Report
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.reasons import REASONS
from tts_train.curation.exchange.assemble import Assembly, once
from tts_train.curation.exchange.bring import NAME, Brought, bring
from tts_train.curation.exchange.sources import REFERENCE_MISSING, Source, read_sources, require_rows
from tts_train.curation.folder import (
    CLIPS,
    KEPT,
    REMOVED,
    TABLE,
    WORK,
    CorpusFolder,
    RecordingAccount,
    is_corpus_folder,
    require_new,
)
from tts_train.curation.job import CorpusJob
from tts_train.curation.review.changes import JOURNAL
from tts_train.curation.row import ClipRow
from tts_train.disk.apart import require_apart
from tts_train.disk.files import disk_errors, hash_file
from tts_train.errors import DataError, quoted

_log = getLogger(__name__)
DROPPED = "dropped.jsonl"
_SPILL = "embedded"
_TOLD = 3


@dataclass(kw_only=True)
class CorpusMerge(CorpusJob):
    """Bring corpora in any layout, and corpus folders, into one corpus folder.

    The same sound twice becomes one row; rows that give one sound two texts stand in removed.jsonl, for a person to
    decide. Rows that a folder has already stay as they are, so the same command with one more source adds that source.
    """

    positional: ClassVar[str] = "sources"
    positional_help: ClassVar[str] = "corpora: LJSpeech, lists, pairs, JSONL, Parquet, recordings alone, corpus folders"

    sources: list[Path]
    """What to read."""
    out: Path
    """The corpus folder; one that is there takes in what is new."""
    corpus_format: str = "auto"
    """Layout of the sources that are not corpus folders, as prepare and check take it."""
    prefix: bool = False
    """Put each source's name before its speakers' names: one name in two sources is two people."""
    link: bool = False
    """Take recordings that are whole rows as hard links where the disk allows it: they cost no space, and changing a
    clip in place changes the recording."""

    def check_places(self) -> None:
        """Refuse an output that is a source, lies in one or holds one."""
        for source in self.sources:
            require_apart(source, self.out, given="the source")
        require_new(self.out)

    def run(self) -> Report:
        """Read the rows, make their clips, write the tables, and report."""
        folder = CorpusFolder(self.out)
        spill = self.out / WORK / NAME / _SPILL
        with folder.holding(option="--out"), disk_errors(self.out):
            sources = read_sources(self.sources, layout=self.corpus_format, prefix=self.prefix, spill=spill)
            require_rows(sources)
            pieces = [piece for source in sources for piece in source.pieces]
            brought = bring(pieces, self.out, link=self.link, job=self)
            assembly = self._assembled(folder, sources, brought)
            rows, removed = self._write(folder, sources, assembly)
            # Behind the tables: a kill before this leaves files that no row names, and never a row without its file.
            _clear(self.out, brought, [*rows, *removed])
            shutil.rmtree(spill, ignore_errors=True)
        return self._report(sources, brought, assembly, rows)

    def _assembled(self, folder: CorpusFolder, sources: Sequence[Source], brought: Sequence[Brought]) -> Assembly:
        assembly = Assembly()
        for name, removed in ((TABLE, False), (REMOVED, True)):
            for row in folder.rows(name):
                clip = folder.clip(row)
                # A clip that somebody deleted still has its row, which is not this command's to take away.
                assembly.stand(row, hash_file(clip) if clip.is_file() else row.audio, removed=removed)
        results = iter(brought)
        for source in sources:
            for refused in source.rejected:
                assembly.drop(refused.origin, refused.reason, refused.detail)
            for piece in source.pieces:
                assembly.add(piece, next(results))
        return assembly

    def _write(
        self, folder: CorpusFolder, sources: Sequence[Source], assembly: Assembly
    ) -> tuple[list[ClipRow], list[ClipRow]]:
        kept, removed = assembly.tables()
        rows, copies = once([*kept, *removed])
        for copy, clip in copies.items():
            if not (folder.path / copy).exists():
                shutil.copyfile(folder.path / clip, folder.path / copy)
        # Before the refusal below, which sends users to this file.
        told = {origin for source in sources for origin in source.origins()}
        _write_dropped(folder.path / DROPPED, assembly, told)
        if not kept and not removed:
            raise DataError(_nothing(self.sources, assembly, folder.path / DROPPED))
        brought = {one.recording: one for source in sources for one in source.recordings}
        brought |= {
            origin: _account_of(origin, reason, detail, seconds) for origin, reason, detail, seconds in assembly.dropped
        }
        # The same command again tells of the same rows, which are counted once; one that was mended since is kept.
        others = [one for one in folder.recordings() if one.recording not in brought and one.recording not in told]
        accounts = [*others, *brought.values()]
        folder.write(rows[: len(kept)], removed=rows[len(kept) :], recordings=accounts, beside=_journals(sources))
        return rows[: len(kept)], rows[len(kept) :]

    def _report(
        self, sources: Sequence[Source], brought: Sequence[Brought], assembly: Assembly, rows: Sequence[ClipRow]
    ) -> Report:
        seconds = defaultdict(float, assembly.seconds)
        # What was cut away when a source was made has its fate there, and is a part of what came in.
        for recording in (one for source in sources for one in source.recordings):
            for fate, lost in recording.fates.items():
                seconds[fate] += lost
        speakers = Counter(row.speaker for row in rows)
        dropped = {reason: count for reason, count in assembly.fates.items() if reason not in (KEPT, "removed")}
        _tell(assembly, sources, speakers)
        told = {fate: round(value, 3) for fate, value in sorted(seconds.items(), key=lambda one: -one[1]) if value}
        return Report(
            more={
                "out": str(self.out),
                "rows_in": sum(source.rows for source in sources),
                "kept": assembly.fates[KEPT],
                "removed": assembly.fates["removed"],
                "dropped": dict(sorted(dropped.items(), key=lambda one: -one[1])),
                "seconds": told,
                "rows": len(rows),
                "added": assembly.added,
                "hours": round(sum(row.seconds for row in rows) / 3600, 3),
                "speakers": {name or "(not named)": count for name, count in speakers.most_common()},
                "texts_missing": sum(not row.text for row in rows),
                "linked": sum(bool(one.get("linked")) for one in brought),
                "sources": {source.label: source.rows for source in sources},
                "next": self._next(rows, sources, speakers),
            }
        )

    def _next(self, rows: Sequence[ClipRow], sources: Sequence[Source], speakers: Mapping[Any, int]) -> list[str]:
        lines = []
        if any(not row.text for row in rows):
            lines.append(quoted("tts-train", "corpus", "transcribe", self.out))
        if None in speakers or len(sources) > 1:
            lines.append(quoted("tts-train", "corpus", "speakers", self.out))
        return [*lines, quoted("tts-train", "check", self.out)]


def _journals(sources: Sequence[Source]) -> dict[str, str]:
    """Return the journals of the corpus folders, to be kept beside the rows.

    Under names of their own: their clips are called otherwise here, so what they tell can be read, not undone.
    """
    found = {source.label: source.path / JOURNAL for source in sources if is_corpus_folder(source.path)}
    return {
        f"{Path(JOURNAL).stem}-{label}.jsonl": file.read_text(encoding="utf-8")
        for label, file in found.items()
        if file.is_file()
    }


def _tell(assembly: Assembly, sources: Sequence[Source], speakers: Mapping[str | None, int]) -> None:
    if assembly.conflicts:
        first = "; ".join(assembly.conflicts[:_TOLD])
        _log.warning(
            "%d pairs of rows give one sound two texts; they are in %s, for a person to decide: %s",
            len(assembly.conflicts),
            REMOVED,
            first,
        )
    if unlisted := sum(source.unlisted for source in sources):
        _log.warning("%d recordings beside those of the rows are named by no row, and were not brought in.", unlisted)
    pieces = [piece for source in sources for piece in source.pieces]
    if lost := [piece.origin for piece in pieces if REFERENCE_MISSING in piece.row.facts]:
        _log.warning(
            "%d rows name a reference that is not there, and stand without one; the first is %s.", len(lost), lost[0]
        )
    if long := assembly.fates["too_long"]:
        # Of the source that they are in: the first may be a corpus that is cut already.
        origin = next(origin for origin, reason, *_ in assembly.dropped if reason == "too_long")
        source = next((one for one in sources if origin.startswith(f"{one.label}/")), sources[0])
        made = f"{source.path.resolve().with_suffix('').name}-clips"
        cut = quoted("tts-train", "corpus", "slice", source.path, "--out", made)
        _log.warning("%d recordings are too long for one clip. Cut them first, as with: %s", long, cut)
    if None in speakers and len(speakers) > 1:
        _log.warning("%d rows name no speaker, and others do.", speakers[None])


def _account_of(origin: str, reason: str, detail: str, seconds: float) -> RecordingAccount:
    fates = {reason: seconds} if seconds else {}
    return RecordingAccount(recording=origin, seconds=seconds, fates=fates, refused=reason, detail=detail)


def _write_dropped(file: Path, assembly: Assembly, now: Container[str]) -> None:
    """Write the rows that are in no table, and keep what earlier commands wrote of rows that are not read now."""
    ledger = Ledger()
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        old = json.loads(line)
        if old["origin"] not in now:
            ledger.drop(old["origin"], old["reason"], old["detail"])
    for origin, reason, detail, _ in assembly.dropped:
        ledger.drop(origin, reason, detail)
    if ledger.dropped or file.is_file():
        ledger.write_dropped(file)


def _clear(out: Path, brought: Sequence[Brought], rows: Sequence[ClipRow]) -> None:
    """Remove the clips that were made of rows which no table has."""
    named = {row.audio for row in rows}
    for one in brought:
        name = one.get("audio", "")
        if name.startswith(f"{CLIPS}/") and name not in named:
            (out / name).unlink(missing_ok=True)


def _nothing(sources: Sequence[Path], assembly: Assembly, file: Path) -> str:
    reasons = "; ".join(f"{name}: {count}. {REASONS[name]}" for name, count in assembly.fates.most_common(_TOLD))
    long = "too_long" in assembly.fates
    advice = ""
    if long:
        made = Path(f"{sources[0]}-corpus")
        advice = f" Cut long recordings with: {quoted('tts-train', 'corpus', 'slice', sources[0], '--out', made)}"
    return f"No row of {', '.join(map(str, sources))} can be used. {reasons} Each row's reason is in {file}.{advice}"
