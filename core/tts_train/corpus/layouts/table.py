"""Tables in a text file: ``metadata.csv`` and its kin, and lists with bars, ``path|speaker|language|text``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tts_train.corpus.layouts.base import NAME_ONE, Layout, RawRow
from tts_train.corpus.layouts.records import in_single_quotes, records, swapped
from tts_train.corpus.layouts.shape import Shape, read_shape, split_header
from tts_train.corpus.layouts.splits import part_folders, training_part
from tts_train.corpus.rows.builder import parse_segment
from tts_train.corpus.rows.files import first_existing
from tts_train.corpus.rows.names import is_audio
from tts_train.corpus.rows.text import read_lines, require_utf8
from tts_train.corpus.rows.utterance import Rejected
from tts_train.errors import DataError

NAMES = ("metadata.csv", "metadata.tsv", "metadata.txt")

_SAMPLE = 500
# More texts than this in a folder are transcripts: none is opened to see whether it is a table.
_MOST_TEXTS = 50


class Table(Layout):
    """LJSpeech, piper, F5-TTS and audio folders with a ``metadata.csv``; one, or one in each subfolder."""

    name = "metadata"
    summary = "metadata.csv with id|text, id|speaker|text, id|text|normalised or path|text|speaker, or with a header"
    is_list = False

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files
        for file in files:
            require_utf8(file)

    @classmethod
    def detect(cls, path: Path) -> Table | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            return cls(path, path.parent, [path]) if path.suffix.lower() in {".csv", ".tsv", ".txt"} else None
        if not path.is_dir():
            return None
        files = [found] if (found := first_existing(path, NAMES)) else training_part(_in_subfolders(path), path)
        tables = [] if files else training_part([file for file in _other_tables(path) if _may_be_corpus(file)], path)
        if len(tables) > 1:
            names = ", ".join(table.name for table in tables[:8])
            raise DataError(f"{path} holds several tables ({names}) and no metadata.csv. {NAME_ONE}")
        files = files or tables
        return cls(path, path, files) if files else None

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            yield from self._read(file)

    def _read(self, file: Path) -> Iterator[RawRow | Rejected]:
        shown, base = self.shown(file), str(file.parent)
        sample = [line for _, line in islice(read_lines(file), _SAMPLE)]
        if not sample:
            return
        single = in_single_quotes(sample)
        sample = [swapped(line) for line in sample] if single else sample
        shape = read_shape(sample, self.asked, shown, is_list=self.is_list)
        self.taken[shown] = shape.told
        rows = records(file, shape.mark, quoted=shape.quoted, is_row=shape.is_row, single=single)
        for number, record in enumerate(rows):
            if shape.header and not number:
                continue
            origin = f"{shown}:{record.line}"
            fields = record.fault or shape.fit(record.fields, plain=record.plain)
            if isinstance(fields, str):
                yield Rejected(origin, "bad_row", fields)
            else:
                yield _to_raw(origin, shape, fields, base)


def _to_raw(origin: str, shape: Shape, fields: list[str], base: str) -> RawRow | Rejected:
    row = dict(zip(shape.columns, fields, strict=True))
    text = row.get("normalised", "").strip() or row.get("text", "")
    start, end, fault = parse_segment(row)
    if fault:
        return Rejected(origin, "bad_segment", fault)
    audio, speaker, language = row["audio"].strip(), row.get("speaker"), row.get("language")
    more = {name: row.get(name) for name in ("split", "instruct", "reference", "codes")}
    return RawRow(origin, audio, text, speaker, language, start, end, base, **more)


def _other_tables(path: Path) -> list[Path]:
    """Tables by their suffix, and the few texts that are no transcript of a recording beside them."""
    entries = sorted(path.iterdir())
    recordings = {entry.stem for entry in entries if is_audio(entry.name)}
    texts = [entry for entry in entries if entry.suffix == ".txt" and entry.stem not in recordings and entry.is_file()]
    tables = [entry for entry in entries if entry.suffix in (".csv", ".tsv") and entry.is_file()]
    return tables + (texts if len(texts) <= _MOST_TEXTS else [])


def _may_be_corpus(table: Path) -> bool:
    """A table of another name may be about anything, such as the speakers; a text is a list if it names audio."""
    first = next((line for _, line in read_lines(table, errors="replace")), "")
    if table.suffix == ".txt":
        name = first.partition("|")[0].strip() if "|" in first else ""
        return is_audio(name.replace("\\", "/").rpartition("/")[2])
    return "|" in first or any(split_header(first, mark) for mark in "\t;,")


def _in_subfolders(path: Path) -> list[Path]:
    """Audio folders keep a table in each split."""
    return [found for folder in part_folders(path) if (found := first_existing(folder, NAMES[:1]))]


class BarList(Table):
    """A ``.list`` file; bars in the text belong to the text."""

    name = "list"
    summary = "a .list file with rows path|speaker|language|text"
    is_list = True

    @classmethod
    def detect(cls, path: Path) -> BarList | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            return cls(path, path.parent, [path]) if path.suffix == ".list" else None
        if not path.is_dir():
            return None
        # Beside the slices, in a folder of its own, and that in the tool's folder for what it puts out.
        places = ("*.list", "*/*.list", "*/*/*.list")
        lists = training_part(next((found for place in places if (found := sorted(path.glob(place)))), []), path)
        if len(lists) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in lists[:5])
            raise DataError(f"{path} holds {len(lists)} lists ({names}). {NAME_ONE}")
        return cls(lists[0], path, lists) if lists else None
