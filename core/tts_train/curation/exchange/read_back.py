"""Reads an export as ``prepare`` and ``check`` would, and tells which rows are not what was written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import xxhash

from tts_train.corpus.read import open_corpus
from tts_train.corpus.rows.text import clean_language, clean_text
from tts_train.corpus.rows.utterance import Utterance
from tts_train.curation.exchange.formats import Item, Written
from tts_train.errors import DataError


def read_back(folder: Path, table: Written) -> tuple[list[Item], str]:
    """Return the items that a table does not give back as they are, and the ``--corpus_format`` that reads the others.

    Recordings were read when they were written; here each row's recording is told by its name, or by its content where
    it lies in the table.
    """
    best: tuple[list[Item], str] | None = None
    for layout in table.layouts:
        try:
            with _quietly():
                wrong = _wrong(folder, table, layout)
        # A few rows may not tell what the columns are; naming them does.
        except DataError:
            continue
        if not wrong:
            return [], layout
        if best is None or len(wrong) < len(best[0]):
            best = wrong, layout
    return best or (list(table.items), table.layouts[0])


def _wrong(folder: Path, table: Written, layout: str) -> list[Item]:
    found: dict[str, Utterance] = {}
    for row in open_corpus(folder / table.path, layout=layout, every_part=True).rows():
        if isinstance(row, Utterance):
            # Without its sound: a file of Parquet may hold more of it than memory does.
            found[_key_of(row)] = replace(row, audio=b"")
    due = {_key(folder, item): item for item in table.items}
    # A row too many is as wrong as one too few: a header read as a row, a text over two lines.
    if extra := found.keys() - due.keys():
        raise DataError(f"{folder / table.path} gives {len(extra)} rows that were not written")
    return [item for key, item in due.items() if key not in found or not _is_as_written(item, found[key], table)]


def _key_of(row: Utterance) -> str:
    return xxhash.xxh3_128_hexdigest(row.audio) if isinstance(row.audio, bytes) else row.audio.name


def _key(folder: Path, item: Item) -> str:
    if not item.embedded:
        return Path(item.file).name
    return xxhash.xxh3_128_hexdigest((folder / item.file).read_bytes())


def _is_as_written(item: Item, found: Utterance, table: Written) -> bool:
    row = item.row
    said = {"speaker": found.speaker, "language": found.language, "split": found.split, "instruct": found.instruct}
    said["reference"] = found.reference.name if isinstance(found.reference, Path) else None
    due = {
        "speaker": _spelt(row.speaker, table),
        "language": clean_language(row.language)[0] if row.language else None,
        "split": row.split,
        "instruct": clean_text(row.instruct or "")[0] or None,
        "reference": Path(item.reference).name or None,
    }
    # Only what the layout can say: a layout without speakers is right to return none.
    return found.text == item.text and all(said[name] == due[name] for name in table.says)


def _spelt(speaker: str | None, table: Written) -> str | None:
    if table.speakers is not None:
        return table.speakers.get(speaker or "", "0")
    return clean_text(speaker)[0] or None if speaker else None


@contextmanager
def _quietly() -> Iterator[None]:
    """What a reader says about columns is for who reads a corpus that somebody else wrote."""
    log = logging.getLogger("tts_train.corpus")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
