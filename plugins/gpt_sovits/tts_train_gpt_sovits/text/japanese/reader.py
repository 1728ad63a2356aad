"""Reads Japanese: Open JTalk's phonemes with the pitch marks of upstream's v2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tts_train_gpt_sovits.text.japanese.normal import normalise
from tts_train_gpt_sovits.text.libraries import library
from tts_train_gpt_sovits.text.reading import TextReading
from tts_train_gpt_sovits.text.rejected import TextRejected
from tts_train_gpt_sovits.text.scripts import Script, script_of
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

LIBRARIES = ("pyopenjtalk-plus",)
# The table has no mark for the border of an accent phrase (`#`), so upstream's phones have UNK there.
PHRASE_BORDER = "UNK"
PAUSE = "_"

_MORA_ENDS = frozenset({"a", "e", "i", "o", "u", "A", "E", "I", "O", "U", "N", "cl"})
_NOWHERE = -50  # silence has no place in an accent phrase


class JapaneseReader:
    """Reads Japanese of one version by pyopenjtalk-plus.

    Args:
        prosody: with pitch marks, rise `[`, fall `]`, and voiced vowels throughout (v2 and later); without, devoiced
            vowels keep the phones `I` and `U` that the table has (v1).
    """

    def __init__(self, *, prosody: bool = True) -> None:
        self._open_jtalk = library("pyopenjtalk", purpose="Reading Japanese", extra="ja")
        self._prosody = prosody

    def read(self, text: str) -> TextReading:
        """Read `text`; marks stand where they were written, and no accent phrase goes over a space."""
        norm_text = normalise(text)
        phones: list[str] = []
        for run in re.findall(r"[!?…,.\-]|[^!?…,.\- ]+", norm_text):
            phones += [run] if run in PUNCTUATION else self._phones(run)
        return TextReading(norm_text, tuple(phones))

    def _phones(self, text: str) -> Iterator[str]:
        open_jtalk = self._open_jtalk
        try:
            labels = [_Label.parse(line) for line in open_jtalk.make_label(open_jtalk.run_frontend(text))]
        except RuntimeError as error:  # text without a mark in it for some 8,000 bytes
            raise TextRejected("unreadable_text", f"{text[:40]!r}: Open JTalk says {error}") from error
        if not labels and any(script_of(character) in {Script.HAN, Script.DIGIT} for character in text):
            raise TextRejected("unreadable_text", f"{text[:40]!r}: Open JTalk has no reading for it")
        return _with_prosody(labels) if self._prosody else _plain(labels)


@dataclass(frozen=True)
class _Label:
    """What one full-context label says: the phone, and where its mora lies in the accent phrase."""

    phone: str
    from_accent: int
    """Moras after (positive) or before the accent's."""
    from_start: int
    from_end: int
    moras: int

    @classmethod
    def parse(cls, line: str) -> _Label:
        place = re.search(r"/A:(-?\d+)\+(\d+)\+(\d+)/", line)
        moras = re.search(r"/F:(\d+)_", line)
        phone = line.split("-", 1)[1].split("+", 1)[0]
        from_accent, from_start, from_end = map(int, place.groups()) if place else (_NOWHERE,) * 3
        return cls(phone, from_accent, from_start, from_end, int(moras[1]) if moras else _NOWHERE)


def _with_prosody(labels: Sequence[_Label]) -> Iterator[str]:
    """Write phones with marks after Kurihara et al. (2021), doi 10.1587/transinf.2020EDP7104, as upstream does."""
    for label, following in pairwise(labels[1:]):
        if label.phone == "pau":
            yield PAUSE
            continue
        yield label.phone.lower() if label.phone in "AEIOU" else label.phone
        if label.from_end == 1 and following.from_start == 1 and label.phone in _MORA_ENDS:
            yield PHRASE_BORDER
        elif (
            label.from_accent == 0 and following.from_start == label.from_start + 1 and label.from_start != label.moras
        ):
            yield "]"
        elif label.from_start == 1 and following.from_start == 2:
            yield "["


def _plain(labels: Sequence[_Label]) -> Iterator[str]:
    for label in labels[1:-1]:
        yield PAUSE if label.phone == "pau" else label.phone.lower() if label.phone in "AEO" else label.phone
