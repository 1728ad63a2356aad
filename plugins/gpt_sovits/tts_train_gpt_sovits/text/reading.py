"""What a language's reader takes and gives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from tts_train_gpt_sovits.text.symbols import PUNCTUATION

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
