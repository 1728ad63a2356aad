"""What the readers of all languages share: the error, libraries and dictionaries, phone tables, what a reading is."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType, ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tts_train.contract import ConfigError, DataError, MissingExtraError

REASONS = (
    "empty_text",  # nothing that can be spoken is left
    "language_not_enabled",  # the caller allowed fewer languages than the row needs
    "language_not_in_v1",  # v1's table has zh, ja and en only
    "no_language",  # the row names no language and the caller gave no default
    "unknown_language",  # a code that is none of the five
    "unknown_phone",  # a phone that is not in the version's table
    "unreadable_text",  # a character that the language's dictionary cannot read
    "unsupported_script",  # letters of a script that none of the five languages uses
)


class TextRejected(DataError):
    """A row whose text cannot be turned into phonemes; `prepare` drops the row with `reason`.

    Args:
        reason: stable, in snake case, for ledgers: one of `REASONS` here, others from those who use the front end.
        detail: what was given, what is allowed, what to do next.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[TextRejected], tuple[str, str]]:
        return TextRejected, (self.reason, self.detail)  # so that worker processes can hand it back


def library(module: str, *, purpose: str, extra: str) -> ModuleType:
    """Import `module`, which `extra` installs.

    Raises:
        MissingExtraError: the module, or one that it needs, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some warn of their own imports, which no user can change
            return import_module(module)
    except ImportError as error:
        raise MissingExtraError(purpose, extra) from error


_FOLDER = files("tts_train_gpt_sovits.text").joinpath("data")


def read_text(name: str) -> str:
    """Read a UTF-8 file of the data folder; `.xz` files are unpacked."""
    raw = _FOLDER.joinpath(name).read_bytes()
    return (lzma.decompress(raw) if name.endswith(".xz") else raw).decode("utf-8")


def read_arrays(name: str) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of an `.npz` file as float32."""
    with np.load(io.BytesIO(_FOLDER.joinpath(name).read_bytes()), allow_pickle=False) as archive:
        return {key: archive[key].astype(np.float32) for key in archive.files}


def data_digest() -> str:
    """Hash every data file, so that a changed dictionary changes the fingerprint."""
    digest = hashlib.sha256()
    for entry in sorted(_FOLDER.iterdir(), key=lambda entry: entry.name):
        digest.update(entry.name.encode() + hashlib.sha256(entry.read_bytes()).digest())
    return digest.hexdigest()


VERSIONS = ("v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4")
PUNCTUATION = ("!", "?", "…", ",", ".", "-")
V1_SIZE = 322  # v2 keeps v1's entries and ids, then adds pitch marks, Korean jamo and Cantonese


@dataclass(frozen=True)
class SymbolTable:
    """The phones of one version; the place in `symbols` is the id."""

    version: str
    symbols: tuple[str, ...]
    ids: Mapping[str, int]

    def ids_of(self, phones: Iterable[str]) -> tuple[int, ...]:
        """Give the id of each phone.

        Raises:
            TextRejected: `unknown_phone`, naming the phones that the table lacks.
        """
        phones = tuple(phones)
        unknown = sorted({phone for phone in phones if phone not in self.ids})
        if unknown:
            names = " ".join(repr(phone) for phone in unknown[:8])
            raise TextRejected(
                "unknown_phone", f"{names} not in the table of {self.version} ({len(self.symbols)} phones)"
            )
        return tuple(self.ids[phone] for phone in phones)


@cache
def symbol_table(version: str) -> SymbolTable:
    """Return the table of a released version; only v1's differs from the others'."""
    if version not in VERSIONS:
        raise ConfigError(f"--version is one of {', '.join(VERSIONS)}, and {version!r} was given.")
    every = tuple(read_text("symbols.txt").split())
    symbols = every[:V1_SIZE] if version == "v1" else every
    return SymbolTable(version, symbols, MappingProxyType({symbol: i for i, symbol in enumerate(symbols)}))


_MARKS = re.escape("".join(PUNCTUATION))
_REPEATED_MARKS = re.compile(f"([{_MARKS}])[{_MARKS}]+")


@dataclass(frozen=True)
class TextReading:
    """One piece of text in one language, read.

    `word2ph` holds the phones of each character of `norm_text` (zh and yue only).
    """

    norm_text: str
    phones: tuple[str, ...]
    word2ph: tuple[int, ...] | None = None


class Reader(Protocol):
    """Reads text of one language; made once, it may hold a dictionary of many megabytes."""

    def read(self, text: str) -> TextReading:
        """Normalise and pronounce `text`; raises TextRejected where a character cannot be read."""


def without_repeated_marks(text: str) -> str:
    """Keep the first of several marks in a row, as upstream does (`?!` becomes `?`)."""
    return _REPEATED_MARKS.sub(r"\1", text)
