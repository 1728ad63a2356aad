"""The phoneme tables: which phones a version knows and the id of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.text.package_data import read_text
from tts_train_gpt_sovits.text.rejected import TextRejected

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
