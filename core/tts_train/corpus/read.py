"""Open a corpus in whatever layout it has, and read its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tts_train.corpus.ahead import Ahead, read_ahead
from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.columnar import Arrow, Parquet
from tts_train.corpus.layouts.experiment import Experiment
from tts_train.corpus.layouts.hub import Hub
from tts_train.corpus.layouts.jsonl import JsonLines
from tts_train.corpus.layouts.pairs import Pairs
from tts_train.corpus.layouts.splits import part_of, warn_left_out
from tts_train.corpus.layouts.table import BarList, Table
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.own_output import corpus_folder, refuse_prepared
from tts_train.corpus.reading import Reading
from tts_train.corpus.rows.builder import RowBuilder
from tts_train.corpus.rows.columns import parse_format
from tts_train.corpus.rows.files import AudioFinder, walk
from tts_train.corpus.rows.names import is_audio
from tts_train.corpus.rows.utterance import Rejected, Row, TokenRow, Utterance
from tts_train.errors import DataError, NoTextsError, quoted

# In the order in which they are tried: the most telling marks first.
_LAYOUTS: tuple[type[Layout], ...] = (Experiment, Arrow, Parquet, JsonLines, Table, BarList, Pairs, Hub)
_FAMILIES = {
    "ljspeech": ("metadata",),
    "piper": ("metadata",),
    "f5": ("metadata",),
    "audiofolder": ("jsonl", "metadata"),
    "nemo": ("jsonl",),
    "huggingface": ("arrow", "parquet", "hub"),
}

_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".list", ".json", ".jsonl", ".ndjson")

_ABOUT = {"readme", "license", "licence", "notice", "dataset_dict", "dataset_info", "state", "dataset"}

LAYOUTS = tuple(layout.name for layout in _LAYOUTS)
"""Names that ``--corpus_format`` takes, besides ``auto`` and the usual names of families."""


class Corpus:
    """A corpus whose layout is known; its rows are read from disk at each call of :meth:`rows`.

    Attributes:
        path: what the user named.
        root: real folder that no audio file may lead out of.
        layout: name of the layout.
        total: number of rows, once they have been counted; None before.
    """

    def __init__(self, layout: Layout, *, allow_outside: bool = False, every_part: bool = False) -> None:
        self.path = layout.path
        self.layout = layout.name
        self.total: int | None = None
        self._layout = layout
        self._finder = AudioFinder(layout.root, allow_outside=allow_outside)
        self._reading = Reading(layout)
        self._ahead: Ahead | None = None
        self._every_part = every_part
        self.root = None if allow_outside else Path(self._finder.boundary)

    def rows(self) -> Iterator[Row]:
        """Yield every row in order: usable ones with cleaned text and found audio, the others with a reason.

        Of rows with the same audio and stretch, the first is kept if they agree on the text and none if they do not.
        """
        builder, texts = RowBuilder(self._finder, folders=self._layout.asked.folders), dict[int, int]()
        if self._ahead is None:
            self._ahead = read_ahead(self._layout, self._finder, every_part=self._every_part)
            self.total = self._ahead.total
            if self._ahead.left_out:
                warn_left_out("rows", [f"{name} ({count} rows)" for name, count in self._ahead.left_out.items()])
        for raw in self._layout.raws():
            if not isinstance(raw, RawRow):
                yield raw
            elif self._ahead.is_left_out(raw):
                continue
            elif self._ahead.is_conflict(raw, self._finder):
                yield Rejected(raw.origin, "conflict", f"another text for {raw.audio!r}")
            else:
                row = builder.build(raw)
                self._reading.add(raw, row)
                yield _without_repeat(row, texts) if isinstance(row, Utterance) else row
        self._reading.tell()

    def unlisted_audio(self) -> int:
        """Count audio files beside the used ones that no row names; call it after :meth:`rows` is through."""
        return self._finder.unlisted()


def open_corpus(
    path: Path | str, *, layout: str = "auto", allow_outside: bool = False, every_part: bool = False
) -> Corpus:
    """Open a corpus: a folder, a file, or the name of a data set on the hub.

    Args:
        path: what to read.
        layout: one of :data:`LAYOUTS`, a family such as ``ljspeech`` or ``huggingface``, or ``auto``; or what columns
            or folders mean, as in ``audio|speaker|text``, ``audio=WAV,text=SAID`` or ``speaker/audio``; or the list
            to read of a folder, as in ``lists/train.list``.
        allow_outside: let paths lead out of the corpus folder.
        every_part: read the rows of validation and test parts, too, which each row names in ``split``; files and
            folders of such parts are read where they are named.

    Raises:
        DataError: if the layout is unknown or does not fit, or a list is not UTF-8.
    """
    path = Path(path)
    try:
        return Corpus(_find_layout(path, layout), allow_outside=allow_outside, every_part=every_part)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path and who may read it.") from None


def _find_layout(path: Path, layout: str) -> Layout:
    refuse_prepared(path)
    if path.is_dir() and _is_file_in(path, layout):
        inner = _find_layout(path / layout, "auto")
        # Paths in a list below belong to the folder that the user named, as those of the other lists there do.
        inner.path = inner.root = path
        return inner
    asked = parse_format(layout)
    allowed = LAYOUTS if layout == "auto" or asked else _FAMILIES.get(layout, (layout,))
    if asked and asked.columns:
        allowed = (Table.name, BarList.name)
    if not set(allowed) <= set(LAYOUTS):
        names = ", ".join(("auto", *LAYOUTS, *_FAMILIES))
        raise DataError(
            f"{layout!r} is no corpus layout. Choose --corpus_format from: {names}; or name the columns of a table in "
            "order, as in 'audio|speaker|text'."
        )
    for candidate in _LAYOUTS:
        if candidate.name in allowed and (found := _open(candidate, path, asked_for=layout != "auto", only=allowed)):
            # A folder with several lists fits several layouts, and which is meant cannot be told by their order.
            if len(allowed) > 1 and candidate in (JsonLines, Table, BarList):
                _require_one_list(path)
            found.asked = asked or found.asked
            return found
    if layout == "auto" and (recordings := _only_recordings(path)):
        raise NoTextsError(path, len(recordings), recordings[0])
    raise DataError(_no_layout(path, allowed))


def _is_file_in(folder: Path, name: str) -> bool:
    """Tell whether a name is that of a file below a folder."""
    if "\0" in name or not name.lower().endswith(_TABLE_SUFFIXES):
        return False
    file = (folder / name).resolve()
    return file.is_file() and file.is_relative_to(folder.resolve())


def _open(candidate: type[Layout], path: Path, *, asked_for: bool, only: Sequence[str]) -> Layout | None:
    """Return the layout if the path has it; a file whose layout is said may have any name."""
    if found := candidate.detect(path):
        return found
    if asked_for and only[0] == candidate.name and candidate in (JsonLines, Table, BarList, Parquet) and path.is_file():
        return candidate(path, path.parent, [path])
    return None


def kept_utterances(corpus: Corpus, ledger: Ledger) -> Iterator[Utterance | TokenRow]:
    """Yield the rows that pass the rules of rows, and put the others into the ledger.

    Each yielded row is open in the ledger until the caller settles it with ``ledger.keep`` or ``ledger.drop``.
    """
    if (folder := corpus_folder(corpus.path)) is not None:
        ledger.advice["empty_text"] = f"Write texts with: {quoted('tts-train', 'corpus', 'transcribe', folder)}."
    for row in corpus.rows():
        ledger.begin(row)
        if not isinstance(row, Rejected):
            yield row
    if unlisted := corpus.unlisted_audio():
        ledger.warn("unlisted_audio", count=unlisted)


def _without_repeat(row: Utterance, texts: dict[int, int]) -> Utterance | Rejected:
    # Hashes: texts of a million rows would take hundreds of megabytes.
    key, text = int(row.id, 16), hash(row.text)
    if key not in texts:
        texts[key] = text
        return row
    reason = "duplicate" if texts[key] == text else "conflict"
    return Rejected(row.origin, reason, f"an earlier row has the same audio ({row.id})")


def _require_one_list(path: Path) -> None:
    """Of several lists one would win by its suffix alone: ask instead, unless only one has the usual name."""
    patterns = ("*.list", "*.jsonl", "*.csv", "*.tsv")
    files = [file for pattern in patterns for file in path.glob(pattern)] if path.is_dir() else []
    names = sorted(file.name for file in files if part_of(file.stem) != "other")
    # A corpus folder keeps other tables beside corpus.jsonl: rows that were taken out, what a person edits.
    if "corpus.jsonl" in names:
        return
    usual = [name for name in names if name.startswith(("metadata.", "manifest."))]
    if len(names) > 1 and len(usual) != 1:
        raise DataError(
            f"{path} holds {', '.join(names[:8])}. Name the one to read, or give --corpus_format its name or layout."
        )


def _only_recordings(path: Path) -> list[str]:
    """Return the names of the recordings at or below a path, if there is no table among them."""
    if path.is_file():
        return [path.name] if is_audio(path.name) else []
    names = [(folder, name) for folder, found in walk(str(path)) for name in found]
    if any(_is_table(Path(folder, name)) for folder, name in names):
        return []
    return [Path(folder, name).relative_to(path).as_posix() for folder, name in names if is_audio(name)]


def _no_layout(path: Path, allowed: tuple[str, ...]) -> str:
    known = "\n".join(f"  {layout.name}: {layout.summary}" for layout in _LAYOUTS if layout.name in allowed)
    if not path.exists():
        return f"{path} does not exist. Name a corpus:\n{known}"
    seen = "a file"
    if path.is_dir():
        names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
        seen = f"a folder with {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else "an empty folder"
    table = next((file for file in sorted(path.glob("*")) + sorted(path.glob("*/*")) if _is_table(file)), None)
    hint = f"\nTo read a table in it, add its name, as in --corpus_format {table.relative_to(path)}" if table else ""
    return f"{path} is {seen}, which fits no layout that was asked for:\n{known}{hint}"


def _is_table(file: Path) -> bool:
    about = file.stem.lower() in _ABOUT
    return file.suffix.lower() in _TABLE_SUFFIXES and not about and not file.name.startswith(".") and file.is_file()
