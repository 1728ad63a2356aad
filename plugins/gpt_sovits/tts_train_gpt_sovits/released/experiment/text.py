"""The two tables of an experiment folder, and which language the phones of a row are of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tts_train.contract import DataError
from tts_train.corpus import Rejected, read_lines, require_utf8
from tts_train_gpt_sovits.released.experiment.layout import NAMES, TOKENS, TOKENS_HEADER, plain_name

_COLUMNS = 4
_KOREAN = re.compile("[\u1100-\u11ff\u3131-\u318e]+")
_CANTONESE = re.compile(r"Y[a-z]+[1-6]?")
_ENGLISH = re.compile(r"[A-Z]{2}[012]")
_CHINESE = re.compile(r"[A-Za-z]+[1-5]")
_JAPANESE = re.compile(r"[A-Za-z]+")
_LANGUAGES = (("ko", _KOREAN), ("yue", _CANTONESE), ("en", _ENGLISH), ("zh", _CHINESE), ("ja", _JAPANESE))
"""In this order: what a phone of the first kind is, no other language before it has."""


@dataclass(frozen=True)
class NameRow:
    """A row of ``2-name2text``."""

    origin: str
    """The file and the line, for people."""
    name: str
    """The clip: a file's name with its ending."""
    phones: tuple[str, ...]
    word2ph: tuple[int, ...] | None
    text: str
    """As it was normalised for the phones."""


def read_names(folder: Path) -> Iterator[NameRow | Rejected]:
    """Yield the rows of ``2-name2text``, whole or in parts.

    Raises:
        DataError: if there is no such file, or it is not UTF-8.
    """
    for file in _files(folder, NAMES, ".txt"):
        for number, line in read_lines(file):
            yield _name_row(f"{file.name}:{number}", line.split("\t"))


def read_tokens(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the semantic tokens of every clip of ``6-name2semantic``; a row that is no row of tokens is left out.

    Raises:
        DataError: if there is no such file, or it is not UTF-8.
    """
    found = {}
    for file in _files(folder, TOKENS, ".tsv"):
        for _, line in read_lines(file):
            name, _, numbers = line.partition("\t")
            parts = numbers.split()
            if parts and all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
                found[name] = tuple(map(int, parts))
    return found


def names_table(rows: Iterable[tuple[str, Sequence[str], Sequence[int] | None, str]]) -> str:
    """Return the text of ``2-name2text.txt`` for names, phones, counts and normalised texts."""
    return "".join(
        f"{name}\t{' '.join(phones)}\t{counts if counts is None else list(counts)}\t{_one_line(text)}\n"
        for name, phones, counts, text in rows
    )


def tokens_table(rows: Iterable[tuple[str, Sequence[int]]]) -> str:
    """Return the text of ``6-name2semantic.tsv``."""
    lines = ["\t".join(TOKENS_HEADER), *(f"{name}\t{' '.join(map(str, codes))}" for name, codes in rows)]
    return "\n".join(lines) + "\n"


def language_of(phones: Iterable[str]) -> str | None:
    """Return zh, en, ja, ko or yue by what only this language's phones look like; None for punctuation alone."""
    phones = tuple(phones)
    return next((name for name, kind in _LANGUAGES if any(map(kind.fullmatch, phones))), None)


def parse_counts(text: str) -> tuple[int, ...] | None:
    """Return the counts that upstream writes as a Python list, or None for ``None``.

    Raises:
        ValueError: if it is anything but whole numbers from 0 in brackets.
    """
    if text == "None":
        return None
    try:
        counts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("the counts are no list") from error
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("the counts are not whole numbers from 0")
    return tuple(counts)


def _name_row(origin: str, parts: list[str]) -> NameRow | Rejected:
    if len(parts) != _COLUMNS:
        return Rejected(origin, "bad_row", f"{len(parts)} columns, not name, phones, word2ph, text")
    name, phones, counts, text = parts
    if not plain_name(name):
        return Rejected(origin, "outside_root", f"{name!r} is not the name of a file in 5-wav32k")
    row = phones.split()
    try:
        word2ph = parse_counts(counts)
    except ValueError as error:
        return Rejected(origin, "bad_row", str(error))
    if word2ph is not None and (sum(word2ph) != len(row) or len(word2ph) != len(text)):
        detail = f"{len(text)} characters and {len(row)} phones, with counts for {len(word2ph)} and {sum(word2ph)}"
        return Rejected(origin, "bad_row", detail)
    return NameRow(origin, name, tuple(row), word2ph, text)


def _files(folder: Path, stem: str, suffix: str) -> list[Path]:
    whole = folder / f"{stem}{suffix}"
    files = [whole] if whole.is_file() else sorted(folder.glob(f"{stem}-*{suffix}"))
    if not files:
        raise DataError(f"{folder} holds no {stem}{suffix}. Name the folder of an experiment, such as logs/my-voice.")
    for file in files:
        require_utf8(file)
    return files


def _one_line(text: str) -> str:
    return "".join(" " if char in "\t\n\r" else char for char in text)
