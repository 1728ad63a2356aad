"""``corpus export``: a corpus folder in any layout that ``check`` reads, read back before it gets its name."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import ClassVar, Literal

from tts_train.contract.reports import Report
from tts_train.corpus.audio.containers import MAX_RATE, MIN_RATE
from tts_train.corpus.rows.text import clean_text, has_words
from tts_train.curation.exchange.bring import plain_stem
from tts_train.curation.exchange.formats import (
    F5,
    AudioFolder,
    AudioFolderLines,
    Beside,
    CorpusFormat,
    Item,
    Lines,
    LJSpeech,
    Nemo,
    Piper,
    SpeakerList,
    StyleTTS2,
    Vits,
    Written,
)
from tts_train.curation.exchange.parquet import HubFolder, ParquetFiles
from tts_train.curation.exchange.read_back import read_back
from tts_train.curation.exchange.write_audio import Sounding, sound_all
from tts_train.curation.folder import KEPT, REFERENCES, CorpusFolder
from tts_train.curation.job import CorpusJob
from tts_train.curation.row import ClipRow
from tts_train.disk.apart import require_apart
from tts_train.disk.place import check_place, staged_folder
from tts_train.disk.provenance import FILE_NAME
from tts_train.errors import ConfigError, DataError, quoted

_log = getLogger(__name__)
_CLASSES: tuple[type[CorpusFormat], ...] = (
    LJSpeech, Piper, F5, SpeakerList, StyleTTS2, Vits, AudioFolder, AudioFolderLines, Nemo, Beside, Lines,
    ParquetFiles, HubFolder,
)  # fmt: skip
FORMATS: Mapping[str, type[CorpusFormat]] = {each.name: each for each in _CLASSES}
"""What ``--format`` takes."""
_ADVICE = {
    "no_text": "Say what is said in it: tts-train corpus transcribe.",
    "not_utf8": "Half of a letter stands in it, which no file in UTF-8 can hold: correct it.",
    "not_read_back": "Its text or name is read otherwise in this layout: write it otherwise, or choose audiofolder.",
}
TRAIN = "train"
_TOLD = 3


@dataclass(frozen=True)
class Refused:
    """A row that is not exported."""

    row: ClipRow
    reason: str
    advice: str


@dataclass(kw_only=True)
class CorpusExport(CorpusJob):
    """Write a corpus folder in another layout, read it back, and compare rows, texts and lengths.

    A row that the layout cannot hold is left out and named. The folder gets its name only if all the others read back.
    """

    positional: ClassVar[str] = "folder"
    positional_help: ClassVar[str] = "corpus folder to export"

    folder: Path
    """The corpus folder."""
    format: str
    """Layout to write, such as ljspeech, audiofolder, parquet or huggingface; a wrong name lists all of them."""
    out: Path
    """Folder for the export; an earlier export there is replaced."""
    audio: Literal["auto", "as_is", "wav", "flac"] = "auto"
    """How recordings are written: as they are, or as mono WAV or FLAC; ``auto`` is WAV for layouts whose tools read
    nothing else, and as they are for the others."""
    sample_rate: int | None = None
    """Rate to write, in Hz; needs WAV or FLAC. Without it each recording keeps its own."""
    speaker: str | None = None
    """Export the rows of this speaker alone."""

    def check_places(self) -> None:
        """Refuse an output that lies in the corpus or holds it, or where something else is."""
        require_apart(self.folder, self.out, given="the corpus folder")
        check_place(self.out)

    def run(self) -> Report:
        """Write, read back, and report."""
        form, rate = self._format(), self.sample_rate
        kind = form.audio if self.audio == "auto" else self.audio
        if kind == "as_is" and rate is not None:
            raise ConfigError(
                f"--sample_rate {rate} needs --audio wav or flac: recordings as they are keep their rate."
            )
        if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
            raise ConfigError(f"--sample_rate is from {MIN_RATE} to {MAX_RATE} Hz, not {rate}.")
        folder = CorpusFolder.open(self.folder)
        rows = self._rows(folder)
        # Before a recording is opened: what a layout cannot say is known by the rows alone.
        sayable, refused = _sift(form, rows)
        if not sayable:
            raise DataError(f"No row of {self.folder} can be exported. {_reasons(refused)}")
        with staged_folder(self.out) as staged:
            items, unread = self._sound(folder, form, sayable, staged, kind)
            written, tables, layouts, lost = _write_tables(form, items, staged)
            refused += [*unread, *lost]
            # They lie in the tables now.
            for name in {item.file.partition("/")[0] for item in items} if form.embeds else ():
                shutil.rmtree(staged / name)
            # By this card check_place knows an earlier export, which may be replaced.
            card = {"format": f"corpus {form.name}", "rows": len(written), "source": self.folder.resolve().name}
            (staged / FILE_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            files = sum(path.is_file() for path in staged.rglob("*"))
        return self._report(form, rows, written, refused, tables, layouts, files)

    def _format(self) -> CorpusFormat:
        if self.format not in FORMATS:
            known = "\n".join(f"  {name}: {each.summary}" for name, each in FORMATS.items())
            raise ConfigError(f"{self.format!r} is no layout that can be written. Choose one with --format:\n{known}")
        return FORMATS[self.format]()

    def _rows(self, folder: CorpusFolder) -> list[ClipRow]:
        # Rows that were taken out are not exported: that is what taking out is for.
        rows = folder.rows()
        if self.speaker is not None:
            names = Counter(row.speaker for row in rows if row.speaker)
            if self.speaker not in names:
                known = ", ".join(name for name, _ in names.most_common(8)) or "nobody"
                raise ConfigError(f"--speaker {self.speaker} has no row in {self.folder}, which names {known}.")
            rows = [row for row in rows if row.speaker == self.speaker]
        # Beside parts that are named, a row without one belongs to what is trained on.
        if any(row.split for row in rows):
            rows = [row if row.split else replace(row, split=TRAIN) for row in rows]
        return rows

    def _sound(
        self,
        folder: CorpusFolder,
        form: CorpusFormat,
        rows: Sequence[ClipRow],
        staged: Path,
        kind: Literal["as_is", "wav", "flac"],
    ) -> tuple[list[Item], list[Refused]]:
        names = _names(form, rows, kind)
        work = [
            Sounding(source=folder.clip(row), target=staged / name, kind=kind, sample_rate=self.sample_rate)
            for row, name in zip(rows, names, strict=True)
        ]
        items, refused = list[Item](), list[Refused]()
        for row, name, found in zip(rows, names, sound_all(work, self), strict=True):
            # Nothing of it stays, or folders that are read whole would have a recording without a row.
            if "error" in found:
                (staged / name).unlink(missing_ok=True)
                refused.append(Refused(row, found["error"], found["detail"]))
            else:
                reference = _copied_reference(folder, row, staged) if form.refers else ""
                item = Item(row=row, file=name, seconds=found["seconds"], embedded=form.embeds, reference=reference)
                items.append(item)
        return items, refused

    def _report(
        self,
        form: CorpusFormat,
        rows: Sequence[ClipRow],
        written: Sequence[Item],
        refused: Sequence[Refused],
        tables: Sequence[Written],
        layouts: Sequence[str],
        files: int,
    ) -> Report:
        if refused:
            _log.warning("%d of %d rows were left out. %s", len(refused), len(rows), _reasons(refused))
        seconds: defaultdict[str, float] = defaultdict(float)
        # As the corpus counts them, so that what goes in comes out; a resampler adds a part of a sample.
        seconds[KEPT] = sum(item.row.seconds for item in written)
        for one in refused:
            seconds[one.reason] += one.row.seconds
        # Where the columns had to be named to be read, they have to be named again.
        trained = any(item.row.split in (None, TRAIN) for item in written)
        # Without a row to train on the folder is refused; its tables are read by name.
        check = ["tts-train", "check", self.out if trained else self.out / tables[0].path]
        if layouts[0] != "auto" and not tables[0].path.count("/"):
            check += ["--corpus_format", layouts[0]]
        return Report(
            more={
                "format": form.name,
                "out": str(self.out),
                "rows_in": len(rows),
                "rows": len(written),
                "refused": dict(Counter(one.reason for one in refused).most_common()),
                "refused_rows": {one.row.audio: one.reason for one in refused},
                "seconds": {fate: round(value, 3) for fate, value in seconds.items()},
                "parts": dict(Counter(item.row.split or "all" for item in written)),
                "verified": True,
                "files": files,
                "corpus_format": layouts[0],
                "next": [quoted(*check)],
            }
        )


def _sift(form: CorpusFormat, rows: Sequence[ClipRow]) -> tuple[list[ClipRow], list[Refused]]:
    """Return the rows that the layout can say, and the others."""
    speakers = {row.speaker for row in rows if row.speaker}
    if len(speakers) > 1 and not form.says_speaker:
        names = ", ".join(sorted(speakers)[:8])
        raise ConfigError(
            f"{form.name} has no column for speakers, and the rows name {len(speakers)}: {names}. Choose one with "
            "--speaker NAME, or --format piper or audiofolder."
        )
    sayable, refused = list[ClipRow](), list[Refused]()
    for row in rows:
        if not has_words(clean_text(row.text)[0]):
            refused.append(Refused(row, "no_text", _ADVICE["no_text"]))
        # Half of a pair of surrogates, of a text that was cut: no file in UTF-8 can hold it.
        elif not _is_utf8(row):
            refused.append(Refused(row, "not_utf8", _ADVICE["not_utf8"]))
        elif refusal := form.refusal(row, several=bool(speakers)):
            refused.append(Refused(row, *refusal))
        else:
            sayable.append(row)
    return sayable, refused


def _copied_reference(folder: CorpusFolder, row: ClipRow, staged: Path) -> str:
    """Copy a row's reference, once for all rows that name it, and return its name below the export."""
    source = folder.reference(row)
    if source is None or not source.is_file():
        return ""
    name = f"{REFERENCES}/{str(row.reference).removeprefix(f'{REFERENCES}/').replace('/', '_')}"
    if not (staged / name).exists():
        (staged / REFERENCES).mkdir(exist_ok=True)
        shutil.copyfile(source, staged / name)
    return name


def _is_utf8(row: ClipRow) -> bool:
    try:
        "".join((row.text, row.speaker or "", row.language or "", row.instruct or "", row.reference or "")).encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(form: CorpusFormat, rows: Sequence[ClipRow], kind: Literal["as_is", "wav", "flac"]) -> list[str]:
    """Give each row's recording a name below the export that every table and file system takes, all of them apart."""
    taken, found = dict[str, int](), list[str]()
    for row in rows:
        clip = Path(row.audio)
        suffix = clip.suffix.lower() if kind == "as_is" else f".{kind}"
        stem = name = plain_stem(clip.stem) or "clip"
        # Apart in all of the export, also without letter case and suffix: tables name recordings by their stem.
        while name.casefold() in taken:
            # From where the last one of this stem was free: long names of a recording's clips all begin alike.
            taken[stem.casefold()] += 1
            name = f"{stem}-{taken[stem.casefold()]}"
        taken[name.casefold()] = 1
        found.append(f"{form.folder(row)}/{name}{suffix}")
    return found


def _write_tables(
    form: CorpusFormat, items: Sequence[Item], staged: Path
) -> tuple[list[Item], list[Written], list[str], list[Refused]]:
    """Write the tables and read them back; what is read otherwise is left out, and the rest written once more.

    Raises:
        DataError: if the rest does not read back either.
    """
    refused: list[Refused] = []
    held, recordings = list(items), set(staged.rglob("*"))
    # Twice: without the rows that are read otherwise, the guess of what the columns are may be another.
    for _ in range(2):
        tables = form.write(staged, held) if held else []
        read = [read_back(staged, table) for table in tables]
        wrong = {item.row.audio for found, _ in read for item in found}
        if held and not wrong:
            return held, tables, [layout for _, layout in read], refused
        # Of this time: a part that has no row left would keep its table, and fewer shards have other names.
        for path in set(staged.rglob("*")) - recordings:
            if path.is_file():
                path.unlink()
        for item in held:
            if item.row.audio in wrong:
                (staged / item.file).unlink()
                refused.append(Refused(item.row, "not_read_back", _ADVICE["not_read_back"]))
        held = [item for item in held if item.row.audio not in wrong]
    raise DataError(
        f"The export as {form.name} does not read back as it was written, so nothing was left of it. "
        f"{_reasons(refused)} Choose another --format."
    )


def _reasons(refused: Sequence[Refused]) -> str:
    """Say how many rows for which reason, the first of each, and what to do."""
    told = []
    for reason, count in Counter(one.reason for one in refused).most_common():
        these = [one for one in refused if one.reason == reason]
        first = ", ".join(one.row.audio for one in these[:_TOLD])
        told.append(f"{reason}: {count} ({first}). {these[0].advice}")
    return " ".join(told)
