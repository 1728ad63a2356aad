"""What a corpus of any layout brings into a corpus folder, row by row, before a recording is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path

import xxhash

from tts_train.corpus.layouts.splits import part_of
from tts_train.corpus.read import Corpus, open_corpus
from tts_train.corpus.rows.names import bare_name, is_audio, printable_name, recordings_in
from tts_train.corpus.rows.utterance import Rejected, Row, TokenRow, Utterance
from tts_train.curation.folder import REMOVED, TABLE, CorpusFolder, RecordingAccount, is_corpus_folder
from tts_train.curation.row import ClipRow, Cut
from tts_train.disk.files import patiently, temporary_beside
from tts_train.errors import DataError, NoTextsError

REFERENCE_MISSING = "reference_missing"
"""Fact of a row whose reference was not there when it was brought in: how it is called."""

_log = getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One row of a source, whose sound becomes a clip."""

    origin: str
    """Source and row: ``ljspeech/metadata.csv:3``; unique among all that is merged."""
    row: ClipRow
    """As it will stand in the table, but for the clip's name and length."""
    audio: Path
    start: float | None = None
    end: float | None = None
    root: Path | None = None
    """Folder that the file must not leave."""
    removed: bool = False
    """Whether the row was taken out of a corpus folder."""
    reference: Path | None = None
    """Recording that the row names as its reference; it is there."""


@dataclass
class Source:
    """One corpus: what it is called among the others, and what it brings."""

    path: Path
    label: str
    """Its name; no two sources have the same."""
    pieces: list[Piece] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    recordings: list[RecordingAccount] = field(default_factory=list)
    """Of a corpus folder: what became of the recordings that its clips were cut from."""
    unlisted: int = 0
    """Recordings that no row names."""

    @property
    def rows(self) -> int:
        """How many rows it has, usable or not."""
        return len(self.pieces) + len(self.rejected)

    def origins(self) -> Iterator[str]:
        """Yield the origin of every row."""
        yield from (piece.origin for piece in self.pieces)
        yield from (refused.origin for refused in self.rejected)


def read_sources(paths: Sequence[Path], *, layout: str, prefix: bool, spill: Path) -> list[Source]:
    """Read the rows of every source; no recording is opened.

    Args:
        paths: corpora in any layout, corpus folders, folders of recordings.
        layout: of those that are no corpus folder, as ``--corpus_format`` takes it.
        prefix: put the source's name before its speakers' names.
        spill: folder for recordings that lie in tables, such as Parquet files; memory does not hold them all.

    Raises:
        DataError: if one is no corpus.
    """
    found = [Source(path, label) for path, label in zip(paths, _labels(paths), strict=True)]
    for source in found:
        if is_corpus_folder(source.path):
            _read_folder(source)
        else:
            _read_layout(source, layout, spill)
        if prefix:
            source.pieces = [_prefixed(piece, source.label) for piece in source.pieces]
    return found


def _labels(paths: Sequence[Path]) -> Iterator[str]:
    taken: set[str] = set()
    for path in paths:
        # Resolved, since ``.`` has no name; an 8-bit name is spelt in escapes, for a table is UTF-8.
        plain = printable_name(path.resolve().name) or "corpus"
        label, number = plain, 2
        while label.casefold() in taken:
            label, number = f"{plain}-{number}", number + 1
        taken.add(label.casefold())
        yield label


def _prefixed(piece: Piece, label: str) -> Piece:
    speaker = piece.row.speaker
    return replace(piece, row=replace(piece.row, speaker=f"{label}-{speaker}")) if speaker else piece


def _read_folder(source: Source) -> None:
    folder = CorpusFolder.open(source.path)
    source.recordings = [replace(one, recording=f"{source.label}/{one.recording}") for one in folder.recordings()]
    for name, removed in ((TABLE, False), (REMOVED, True)):
        for row in folder.rows(name):
            origin = f"{source.label}/{'removed/' if removed else ''}{row.audio}"
            # Under the source's name, as its recordings are: two corpora may each have an interview.mp3.
            cut = None if row.cut is None else replace(row.cut, recording=f"{source.label}/{row.cut.recording}")
            kept = replace(row, audio=bare_name(row.audio), cut=cut)
            file = folder.reference(row)
            reference = file if file is not None and file.is_file() else None
            kept = _without_reference(kept) if reference is None else kept
            piece = Piece(origin=origin, row=kept, audio=folder.clip(row), root=source.path, removed=removed)
            source.pieces.append(replace(piece, reference=reference))


def _read_layout(source: Source, layout: str, spill: Path) -> None:
    try:
        corpus = open_corpus(source.path, layout=layout, every_part=True)
    except NoTextsError:
        _read_recordings(source)
        return
    beside = list(_parts_beside(source.path, corpus.layout))
    # Beside parts that are held out, the rest is what is trained on, and stays that in a split.
    _add_rows(source, corpus, spill, part="train" if beside else None)
    source.unlisted = corpus.unlisted_audio()
    for name in beside:
        _add_part(source, name, spill)


def _add_part(source: Source, name: str, spill: Path) -> None:
    """Take in a table or folder of held-out rows, by its name below the source."""
    # Tables in text are read as a part of the folder, since the paths in them begin there.
    text = Path(name).suffix in _TEXT_TABLES
    below = "" if text else name if (source.path / name).is_dir() else name.rpartition("/")[0]
    try:
        held = open_corpus(source.path, layout=name) if text else open_corpus(source.path / name)
    except DataError as error:
        _log.warning("%s was not brought in: %s", source.path / name, str(error).splitlines()[0])
        return
    before = source.rows
    _add_rows(source, held, spill, part=split_name(name), below=below)
    # Their recordings lie among those of the other rows, whose table did not name them.
    source.unlisted = max(0, source.unlisted - (source.rows - before)) if text else source.unlisted


_TEXT_TABLES = (".csv", ".tsv", ".txt", ".list", ".json", ".jsonl")


def _parts_beside(root: Path, layout: str) -> Iterator[str]:
    """Yield the files and folders that hold validation or test data, which a reader who trains leaves out."""
    # Pairs are read with all their folders, whose names are the parts of their rows.
    if not root.is_dir() or layout == "pairs":
        return
    for place in (root, root / "data"):
        for entry in sorted(place.iterdir()) if place.is_dir() else ():
            table = entry.suffix in (*_TEXT_TABLES, ".parquet") or entry.is_dir()
            if table and part_of(entry.stem) == "other" and not entry.name.startswith("."):
                yield entry.relative_to(root).as_posix()


def _add_rows(source: Source, corpus: Corpus, spill: Path, *, part: str | None, below: str = "") -> None:
    """Take a corpus's rows in; those of a table that is a part of a data set say so.

    Args:
        source: takes them.
        corpus: is read.
        spill: see :func:`read_sources`.
        part: of rows that do not say it themselves.
        below: folder of the source that the corpus is, so that no two of its rows have one origin.
    """
    start = f"{source.label}/{below}/" if below else f"{source.label}/"
    for row in corpus.rows():
        found = _piece(source, corpus, row, spill)
        if isinstance(found, Piece) and below:
            found = replace(found, origin=start + found.origin.removeprefix(f"{source.label}/"))
        if part and isinstance(found, Piece) and not found.row.split:
            found = replace(found, row=replace(found.row, split=part))
        # Rows that cannot be used are kept for the account, in the order of the source.
        if isinstance(found, Piece):
            source.pieces.append(found)
        else:
            source.rejected.append(replace(found, origin=f"{start}{found.origin}"))


def _read_recordings(source: Source) -> None:
    """A folder of recordings that nothing says the texts of: rows whose text is not known yet."""
    # A single recording is a source as well; its folder is then what names begin at.
    root = source.path if source.path.is_dir() else source.path.parent
    for file in recordings_in(source.path):
        name = printable_name(file.relative_to(root).as_posix())
        source.pieces.append(_untold(f"{source.label}/{name}", file, root))


def _untold(origin: str, file: Path, root: Path) -> Piece:
    return Piece(origin=origin, row=ClipRow(audio=bare_name(file.name), seconds=0.0), audio=file, root=root)


def _piece(source: Source, corpus: Corpus, row: Row, spill: Path) -> Piece | Rejected:
    # Origins of pairs are paths below it.
    root = corpus.path if corpus.path.is_dir() else corpus.path.parent
    if isinstance(row, TokenRow):
        return Rejected(row.origin, "bad_row", "it holds token ids, and a corpus folder holds recordings")
    if isinstance(row, Utterance):
        return _of_utterance(source, corpus, row, root, spill)
    # A recording without a text beside it is what ``corpus transcribe`` is for.
    if row.reason == "missing_text" and (file := root / row.origin).is_file() and is_audio(file.name):
        return _untold(f"{source.label}/{printable_name(row.origin)}", file, root)
    return row


def _of_utterance(source: Source, corpus: Corpus, row: Utterance, root: Path, spill: Path) -> Piece:
    name, recording = row.id, printable_name(row.origin)
    if isinstance(row.audio, bytes):
        file = _spilled(row.audio, spill)
    else:
        file = real = row.audio
        name = bare_name(real.name)
        inside = real.is_relative_to(root.resolve())
        recording = printable_name((real.relative_to(root.resolve()) if inside else Path(real.name)).as_posix())
    cut = None
    if row.start is not None or row.end is not None:
        # Where no end is given it is known when the recording is read.
        cut = Cut(recording=f"{source.label}/{recording}", start=row.start or 0.0, end=row.end or 0.0)
    clip = ClipRow(
        audio=name,
        seconds=0.0,
        text=row.text,
        speaker=row.speaker,
        language=row.language,
        text_by="corpus",
        cut=cut,
        split=split_name(row.split),
        instruct=row.instruct,
        audio_codes=None if row.codes is None else row.codes.tolist(),
    )
    reference = _spilled(row.reference, spill) if isinstance(row.reference, bytes) else row.reference
    if "reference_missing" in row.warnings:
        clip, reference = _without_reference(replace(clip, reference=printable_name(str(reference)))), None
    origin = f"{source.label}/{printable_name(row.origin)}"
    # What was written here lies outside of the corpus, by intent.
    boundary = None if isinstance(row.audio, bytes) else corpus.root
    piece = Piece(origin=origin, row=clip, audio=file, start=row.start, end=row.end, root=boundary)
    return replace(piece, reference=reference)


def _without_reference(row: ClipRow) -> ClipRow:
    """Keep the name of a reference that is not there as a fact."""
    if row.reference is None:
        return row
    return replace(row, reference=None, facts={**row.facts, REFERENCE_MISSING: row.reference})


# First bytes by which a recording without a name is told; the reader goes by them too, whatever the suffix says.
_MARKS = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"FORM": ".aiff"}


def _spilled(data: bytes, folder: Path) -> Path:
    """Write a recording that lies in a table to a file, under a name by its content."""
    suffix = next((suffix for mark, suffix in _MARKS.items() if data.startswith(mark)), ".wav")
    suffix = ".m4a" if data[4:8] == b"ftyp" else suffix
    file = folder / f"{xxhash.xxh3_128_hexdigest(data)}{suffix}"
    # Of another size: a copy that a full disk cut short.
    if not file.is_file() or file.stat().st_size != len(data):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(file)
        temporary.write_bytes(data)
        patiently(lambda: temporary.replace(file))
    return file


def split_name(given: str | None) -> str | None:
    """Return the part of a data set in one spelling: ``train``, ``validation`` or ``test``."""
    if not given or not (part := part_of(given)):
        return None
    if part == "train":
        return "train"
    # "dev" and "valid" are what others call validation; "eval" is sometimes one and sometimes the other: never train.
    return "test" if "test" in given.lower() or "eval" in given.lower() else "validation"


def require_rows(sources: Sequence[Source]) -> None:
    """Refuse sources without a row.

    Raises:
        DataError: naming the first of them.
    """
    for source in sources:
        if not source.rows:
            raise DataError(f"{source.path} has no rows. Check the path, or leave it out.")
