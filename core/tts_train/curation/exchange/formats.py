"""Layouts that a corpus folder is exported to as text tables: what each can say of a row, and how it is written."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from tts_train.corpus.rows.text import clean_text
from tts_train.curation.row import ClipRow

Kind: TypeAlias = Literal["as_is", "wav", "flac"]
BAR = "|"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row of an export."""

    row: ClipRow
    file: str
    """Its recording below the exported folder, ``/`` between."""
    seconds: float
    embedded: bool = False
    """Whether the recording lies in the table."""
    reference: str = ""
    """The row's reference below the exported folder; empty where it has none or the layout has no place for it."""

    @property
    def text(self) -> str:
        """The text on one line, as every reader of tables takes it."""
        return clean_text(self.row.text)[0]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A table, or a folder, of an export, and how it is read again."""

    path: str
    """Below the exported folder; empty for the folder itself."""
    items: Sequence[Item]
    layouts: tuple[str, ...] = ("auto",)
    """What ``--corpus_format`` takes, in order of preference."""
    speakers: Mapping[str, str] | None = None
    """How the table spells each speaker's name; None: as it is."""
    says: frozenset[str] = frozenset()
    """What of a row it can say besides sound and text: ``speaker``, ``language``, ``split``."""


class CorpusFormat(ABC):
    """One layout to write."""

    name: ClassVar[str]
    """What ``--format`` takes."""
    summary: ClassVar[str]
    audio: ClassVar[Kind] = "as_is"
    """How recordings are written where nothing is asked for: as the tools that read this layout expect them."""
    wavs: ClassVar[str] = "audio"
    """Folder of the recordings."""
    says_speaker: ClassVar[bool] = True
    by_part: ClassVar[bool] = False
    """Whether each part of a split has a folder of its own."""
    embeds: ClassVar[bool] = False
    """Whether the recordings lie in the tables."""
    refers: ClassVar[bool] = False
    """Whether rows name their references, which are copied then."""

    def folder(self, row: ClipRow) -> str:
        """Return the folder of a row's recording."""
        return f"{row.split}/{self.wavs}" if self.by_part and row.split else self.wavs

    def refusal(self, row: ClipRow, *, several: bool) -> tuple[str, str] | None:
        """Return a reason and what to do, if the layout cannot say a row; ``several`` speakers are exported."""
        del row, several
        return None

    @abstractmethod
    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write the tables of the items, whose recordings lie in the folder, and return how they are read."""


def by_split(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Return the items of each part, ``train`` first; of rows without a part, all under the empty name."""
    found: dict[str, list[Item]] = {}
    # In this order: the first table of an export is what is trained on.
    for part in ("", "train", "validation", "test"):
        if held := [item for item in items if (item.row.split or "") == part]:
            found[part] = held
    return found


class _Bars(CorpusFormat):
    """Rows with bars between fields and no way to write one in a text."""

    audio = "wav"
    wavs = "wavs"

    def refusal(self, row: ClipRow, *, several: bool) -> tuple[str, str] | None:
        """Refuse a bar: readers of these layouts cut at each, and none knows an escape."""
        if BAR in row.text or BAR in (row.speaker or ""):
            return "bar_in_text", "This layout puts | between fields: write it otherwise, or choose audiofolder."
        # An empty field would be a speaker of its own to most trainers.
        if several and self.says_speaker and not row.speaker:
            return "no_speaker", "Name its speaker: tts-train corpus speakers."
        return None

    def _table(self, folder: Path, name: str, rows: Iterable[Sequence[str]], *, header: str = "") -> None:
        lines = [*([header] if header else []), *(BAR.join(fields) for fields in rows)]
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _part_name(part: str, *, plain: str, named: str) -> str:
    """Return the table of a part: the usual name for what is trained on, one with the part's name for the others."""
    return plain if part in ("", "train") else named.format(part)


class LJSpeech(_Bars):
    """``id|text|text``."""

    name = "ljspeech"
    summary = "metadata.csv with id|text|text and wavs/: one speaker"
    says_speaker = False

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part."""
        found = []
        for part, held in by_split(items).items():
            name = _part_name(part, plain="metadata.csv", named="{}.csv")
            self._table(folder, name, ([Path(item.file).stem, item.text, item.text] for item in held))
            found.append(Written(path=name, items=held, layouts=("auto", "audio|text|normalised")))
        return found


class Piper(_Bars):
    """``id|text``, or ``id|speaker|text``."""

    name = "piper"
    summary = "metadata.csv with id|text, or id|speaker|text for several speakers, and wavs/"

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part, with a column for speakers if any row names one."""
        several = len({item.row.speaker for item in items} - {None}) > 0
        found = []
        for part, held in by_split(items).items():
            name = _part_name(part, plain="metadata.csv", named="{}.csv")
            rows = ([Path(i.file).stem, *([i.row.speaker or ""] if several else []), i.text] for i in held)
            self._table(folder, name, rows)
            layouts = ("auto", "audio|speaker|text" if several else "audio|text")
            says = frozenset({"speaker"} if several else ())
            found.append(Written(path=name, items=held, layouts=layouts, says=says))
        return found


class F5(_Bars):
    """A header ``audio_file|text``."""

    name = "f5"
    summary = "metadata.csv with audio_file|text and wavs/: one speaker"
    says_speaker = False

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part."""
        found = []
        for part, held in by_split(items).items():
            name = _part_name(part, plain="metadata.csv", named="{}.csv")
            self._table(folder, name, ([item.file, item.text] for item in held), header="audio_file|text")
            found.append(Written(path=name, items=held))
        return found


class SpeakerList(_Bars):
    """``path|speaker|language|text``."""

    name = "list"
    summary = "a .list with path|speaker|language|text and wavs/"

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part."""
        found = []
        for part, held in by_split(items).items():
            name = _part_name(part, plain="train.list", named="{}.list")
            rows = ([i.file, i.row.speaker or "", i.row.language or "", i.text] for i in held)
            self._table(folder, name, rows)
            layouts = ("auto", "audio|speaker|language|text")
            found.append(Written(path=name, items=held, layouts=layouts, says=frozenset({"speaker", "language"})))
        return found


class _Numbered(_Bars):
    """Lists whose speakers are numbers, from 0 in the order of their names; ``speakers.json`` says which."""

    columns: ClassVar[str]

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part, and what the speakers' numbers mean."""
        # From all items: a speaker has one number in every part.
        names = sorted({item.row.speaker for item in items if item.row.speaker})
        numbers = {name: str(number) for number, name in enumerate(names)}
        found = []
        for part, held in by_split(items).items():
            # StyleTTS2 and VITS look for these two names.
            short = {"validation": "val"}.get(part, part)
            name = f"{short or 'train'}_list.txt"
            rows = []
            for item in held:
                number = numbers.get(item.row.speaker or "", "0")
                fields = {"audio": item.file, "text": item.text, "speaker": number}
                rows.append([fields[column] for column in self.columns.split(BAR)])
            self._table(folder, name, rows)
            said = frozenset({"speaker"} if numbers else ())
            layouts = ("auto", self.columns)
            found.append(Written(path=name, items=held, layouts=layouts, speakers=numbers, says=said))
        (folder / "speakers.json").write_text(json.dumps(numbers, ensure_ascii=False, indent=2), encoding="utf-8")
        return found


class StyleTTS2(_Numbered):
    """``path|text|speaker number``."""

    name = "styletts2"
    summary = "train_list.txt and val_list.txt with path|text|speaker number, and wavs/"
    columns = "audio|text|speaker"


class Vits(_Numbered):
    """``path|speaker number|text``."""

    name = "vits"
    summary = "train_list.txt and val_list.txt with path|speaker number|text, and wavs/"
    columns = "audio|speaker|text"


class AudioFolder(CorpusFormat):
    """``metadata.csv`` with a header, in a folder for each part."""

    name = "audiofolder"
    summary = "metadata.csv with file_name,text,speaker,language beside the recordings, a folder for each part"
    by_part = True
    file: ClassVar[str] = "metadata.csv"

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part."""
        found = []
        for part, held in by_split(items).items():
            # As datasets' audio folders want it: paths from the table's folder, and a folder for each part.
            rows = [
                {
                    "file_name": item.file.removeprefix(f"{part}/"),
                    "text": item.text,
                    "speaker": item.row.speaker or "",
                    "language": item.row.language or "",
                }
                for item in held
            ]
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / self.file).write_text(self._table(rows), encoding="utf-8", newline="")
            found.append(Written(path=part, items=held, says=frozenset({"speaker", "language"})))
        return found

    def _table(self, rows: Sequence[Mapping[str, str]]) -> str:
        held = io.StringIO()
        # Every field in quotation marks: readers tell by them that a quotation mark in a text is doubled.
        writer = csv.DictWriter(held, list(rows[0]), quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return held.getvalue()


class AudioFolderLines(AudioFolder):
    """``metadata.jsonl``, in a folder for each part."""

    name = "audiofolder_jsonl"
    summary = "metadata.jsonl with file_name, text, speaker, language beside the recordings, a folder for each part"
    file = "metadata.jsonl"

    def _table(self, rows: Sequence[Mapping[str, str]]) -> str:
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Nemo(CorpusFormat):
    """A manifest with a line for each recording."""

    name = "nemo"
    summary = "manifest.json with audio_filepath, text, duration, speaker, lang on each line"
    audio = "wav"
    wavs = "wavs"

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a table for each part."""
        found = []
        for part, held in by_split(items).items():
            name = _part_name(part, plain="manifest.json", named="{}_manifest.json")
            lines = []
            for item in held:
                # duration is needed: NeMo sorts and filters by it before it opens a file.
                line = {"audio_filepath": item.file, "text": item.text, "duration": round(item.seconds, 4)}
                named = {"speaker": item.row.speaker, "lang": item.row.language}
                lines.append({**line, **{key: value for key, value in named.items() if value}})
            _write_lines(folder / name, lines)
            found.append(Written(path=name, items=held, says=frozenset({"speaker", "language"})))
        return found


class Lines(CorpusFormat):
    """``metadata.jsonl`` with all that a row says."""

    name = "jsonl"
    summary = "metadata.jsonl with audio, text, speaker, language, split and all that a row says on each line"
    refers = True

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write one table, whose rows name their part."""
        lines = []
        for item in items:
            row = item.row
            named = {"speaker": row.speaker, "language": row.language, "split": row.split, "instruct": row.instruct}
            more = {"reference": item.reference, "audio_codes": row.audio_codes}
            # The text as it stands, line breaks and all: JSON has an escape for everything.
            told = {key: value for key, value in {**named, **more}.items() if value}
            line = {"audio": item.file, "text": row.text, **told}
            lines.append({**line, "duration": round(item.seconds, 4)})
        _write_lines(folder / "metadata.jsonl", lines)
        return [
            Written(path="", items=items, says=frozenset({"speaker", "language", "split", "instruct", "reference"}))
        ]


class Beside(CorpusFormat):
    """A text beside each recording, in folders by part and speaker."""

    name = "pairs"
    summary = "x.wav beside x.txt, in a folder for each part and speaker"

    def folder(self, row: ClipRow) -> str:
        """Return the folder of a row's part and speaker."""
        from tts_train.curation.exchange.bring import plain_stem

        return "/".join(filter(None, (row.split, plain_stem(row.speaker or "")))) or "audio"

    def refusal(self, row: ClipRow, *, several: bool) -> tuple[str, str] | None:
        """Refuse a name that no folder can have, and a row without one beside rows with one."""
        from tts_train.curation.exchange.bring import plain_stem

        if row.speaker and plain_stem(row.speaker) != row.speaker:
            return "speaker_name", "Folders are called as speakers: give it a name of letters and digits."
        if several and not row.speaker:
            return "no_speaker", "Name its speaker: tts-train corpus speakers."
        return None

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write a text beside each recording."""
        for item in items:
            (folder / item.file).with_suffix(".txt").write_text(f"{item.text}\n", encoding="utf-8")
        # That folders are speakers must be said: a corpus may as well have one for each chapter.
        named = any(item.row.speaker for item in items)
        layouts = ("speaker/audio",) if named else ("auto",)
        says = {"speaker"} if named else set()
        parts = by_split(items)
        if parts.keys() & {"", "train"}:
            return [Written(path="", items=items, layouts=layouts, says=frozenset(says | {"split"}))]
        # Held-out rows alone are read by the name of their folder: nothing is there to train on.
        return [Written(path=part, items=held, layouts=layouts, says=frozenset(says)) for part, held in parts.items()]


def _write_lines(file: Path, lines: Iterable[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file.write_text(text, encoding="utf-8")
