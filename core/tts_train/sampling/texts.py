"""The texts that takes are drawn of: lines of a file, rows of a table, or those of a corpus or a prepared folder."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash

from tts_train.corpus.rows.columns import match_columns
from tts_train.corpus.rows.names import is_audio
from tts_train.corpus.rows.text import clean_language, clean_text, has_words, read_lines, require_utf8
from tts_train.errors import DataError
from tts_train.scoring.sentences import Sentence, SpeakerClips, Split, TextRow, of_split, read_rows, sentence_of, spread

_LINES, _TABLES, _OBJECTS = (".txt",), (".csv", ".tsv"), (".jsonl", ".ndjson")
_IDS = ("id", "text_id", "textid", "utt_id", "uttid", "utterance_id", "sentence_id", "name")
"""Columns that name a text, where no column names a recording."""
_MARKS = {".csv": ",;|\t", ".tsv": "\t"}
_SHOWN = 3
_FORMS = (
    "For texts without recordings, give a .txt file with a sentence a line, or a .csv or .jsonl that names them text."
)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts in the order in which they are drawn, with what they are measured against."""

    rows: tuple[TextRow, ...]
    left_out: Counter[str]
    """Rows that are no text to speak, by reason."""
    voices: SpeakerClips

    @property
    def hash(self) -> str:
        """A hash of ids, texts, speakers and languages, in order."""
        # The order, too: parts are counted by it.
        told = [[row.id, row.text, row.speaker, row.language] for row in self.rows]
        return str(xxhash.xxh3_128_hexdigest(json.dumps(told).encode()))

    def sentence(self, row: TextRow) -> Sentence:
        """Return a row with its recording and others of its speaker, as far as there are any."""
        return sentence_of(row.id, row, row.recording(), self.voices)


def read_texts(
    source: Path,
    *,
    which: Split = "all",
    learned: Callable[[str], bool | None] = lambda _: None,
    count: int = 0,
    language: str | None = None,
    layout: str = "auto",
    recordings: Path | None = None,
    speaker: str | None = None,
    seed: int = 0,
) -> Texts:
    """Read the texts of a file, a corpus or a prepared folder; each row is among them or counted by reason.

    Args:
        source: A text file with a sentence a line; a table or JSON lines with texts, and with ids, speakers and
            languages as far as it names them; recordings with text; or a prepared folder.
        which: See :func:`~tts_train.scoring.sentences.choose_sentences`.
        learned: Tells of an id whether the model was trained on it.
        count: How many to take, in turns between languages and speakers; 0 takes all, in their order.
        language: Language of texts that name none.
        layout: Layout of a corpus.
        recordings: A corpus whose recordings stand for the speakers of texts that have none.
        speaker: Who says all of them, whoever their rows name.
        seed: Another seed chooses others.

    Raises:
        DataError: if there is no text, or two have one id.
    """
    left_out: Counter[str] = Counter()
    plain = _plain_rows(source, layout)
    if plain is None:
        try:
            rows = list(read_rows(source, learned, language=language, layout=layout, left_out=left_out))
        except DataError as error:
            # What was named may have been meant as recordings or as texts.
            raise error if source.is_dir() else DataError(f"{error}\n{_FORMS}") from error
    else:
        rows = list(_cleaned(plain, language, learned, left_out))
    # Takes belong to their text by its id.
    rows = _once_each(rows, source, left_out)
    if not rows:
        raise DataError(f"{source} has no text to speak ({_told(left_out)}). Give a file with a sentence on each line.")
    voices = rows if recordings is None else _voices(recordings)
    if speaker is not None:
        rows = [replace(row, speaker=speaker) for row in rows]
    # Told of what the source has learned only where that is asked for.
    chosen = of_split(rows, which, source) if which != "all" else rows
    # In turns, as eval takes them; all of them in the order of their file.
    if count:
        chosen = spread(chosen, seed=seed)[:count]
    return Texts(rows=tuple(chosen), left_out=left_out, voices=SpeakerClips(voices, seed))


def _voices(recordings: Path) -> list[TextRow]:
    """Return the rows of recordings; those of a single speaker also stand for texts that name none."""
    rows = list(read_rows(recordings, lambda _: None))
    unnamed = [replace(row, speaker=None) for row in rows] if len({row.speaker for row in rows}) == 1 else []
    return [row for row in rows if row.speaker is not None] + (unnamed or [row for row in rows if row.speaker is None])


def _plain_rows(source: Path, layout: str) -> Iterator[dict[str, Any] | None] | None:
    """Yield the rows of a file of texts, None for one that cannot be read; or return None for recordings."""
    suffix = source.suffix.lower()
    if layout != "auto" or not source.is_file() or suffix not in (*_LINES, *_TABLES, *_OBJECTS):
        return None
    require_utf8(source)
    if suffix in _LINES:
        return _lines(source)
    rows = _table(source) if suffix in _TABLES else _objects(source)
    return None if rows is None else iter(rows)


def _lines(source: Path) -> Iterator[dict[str, Any]]:
    # Lists of recordings are often called .txt, and their lines would be spoken as they stand.
    first = next((line for _, line in read_lines(source)), "")
    if is_audio(first.partition("|")[0].strip()):
        raise DataError(
            f"{source} begins with {first.partition('|')[0]!r}, so it is a list of recordings and no text. Say how it "
            "is to be read: --corpus_format 'audio|text'."
        )
    return ({"text": line} for _, line in read_lines(source) if line.strip())


def _table(source: Path) -> list[dict[str, Any] | None] | None:
    """Return the rows of a table whose header names texts and no recordings."""
    header = next((line for _, line in read_lines(source)), "")
    marks = [mark for mark in _MARKS[source.suffix.lower()] if _columns(header.split(mark)) is not None]
    if not marks:
        return None
    with source.open(encoding="utf-8-sig", newline="") as file:
        # A bar is for tables without quotation marks, in which they belong to the text.
        bare = marks[0] == "|"
        reader = (
            csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE) if bare else csv.reader(file, delimiter=marks[0])
        )
        records = list(reader)
    names = [name.strip() for name in records[0]]
    columns = _columns(names)
    if columns is None:
        return None
    return [_of(dict(zip(names, each, strict=False)), columns) if len(each) == len(names) else None
            for each in records[1:] if any(each)]  # fmt: skip


def _objects(source: Path) -> list[dict[str, Any] | None] | None:
    """Return the objects of JSON lines that name texts and no recordings."""
    found: list[dict[str, Any] | None] = []
    for _, line in read_lines(source):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        columns = _columns(list(row)) if isinstance(row, dict) else None
        # One row with a recording makes it a corpus, whose own reader tells more of its rows.
        if isinstance(row, dict) and "audio" in match_columns(_without_ids(list(row))):
            return None
        found.append(None if columns is None else _of(row, columns))
    return found


def _columns(names: list[str]) -> dict[str, str] | None:
    """Return the column of each meaning where there is one of texts and none of recordings."""
    known = match_columns(_without_ids([name.strip() for name in names]))
    if "audio" in known or not {"text", "normalised"} & set(known):
        return None
    columns = {"text": known.get("normalised") or known["text"]}
    columns |= {meaning: known[meaning] for meaning in ("speaker", "language") if meaning in known}
    named = [name.strip() for name in names if name.strip().lower() in _IDS]
    return columns | ({"id": named[0]} if named else {})


def _without_ids(names: list[str]) -> list[str]:
    # In a corpus such a column may name the recording; here it names the text.
    return [name for name in names if name.strip().lower() not in _IDS]


def _of(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    return {meaning: row[name] for meaning, name in columns.items() if row.get(name) not in (None, "")}


def _cleaned(
    rows: Iterable[dict[str, Any] | None],
    language: str | None,
    learned: Callable[[str], bool | None],
    left_out: Counter[str],
) -> Iterator[TextRow]:
    for row in rows:
        if row is None or not isinstance(row.get("text", ""), str):
            left_out["bad_row"] += 1
            continue
        text = clean_text(row.get("text", ""))[0]
        if not has_words(text):
            left_out["empty_text"] += 1
            continue
        speaker = str(row["speaker"]) if "speaker" in row else None
        own = clean_language(str(row["language"]))[0] if "language" in row else language
        # By what is said and by whom, so that texts which are added elsewhere move no id.
        said = json.dumps([text, speaker, own]).encode()
        row_id = str(row["id"]) if "id" in row else blake2b(said, digest_size=8).hexdigest()
        yield TextRow(row_id, text, speaker, own, None, learned(row_id))


def _once_each(rows: Iterable[TextRow], source: Path, left_out: Counter[str]) -> list[TextRow]:
    """Return the rows without repeats.

    Raises:
        DataError: if one id stands for two texts.
    """
    found: dict[str, TextRow] = {}
    clashes: list[str] = []
    for row in rows:
        first = found.setdefault(row.id, row)
        if first is row:
            continue
        if (first.text, first.speaker, first.language) == (row.text, row.speaker, row.language):
            left_out["duplicate"] += 1
        else:
            clashes.append(row.id)
    if clashes:
        shown = ", ".join(islice(dict.fromkeys(clashes), _SHOWN))
        raise DataError(
            f"{source}: {len(clashes)} ids stand for two texts, such as {shown}. Give each text its own id."
        )
    return list(found.values())


def _told(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it is empty"
