"""Reads Japanese: Open JTalk's phonemes with the pitch marks of upstream's v2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tts_train_gpt_sovits.text.libraries import library
from tts_train_gpt_sovits.text.reading import Reading, without_repeated_marks
from tts_train_gpt_sovits.text.scripts import Script, script_of
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

LIBRARIES = ("pyopenjtalk-plus",)
# The table has no mark for the border of an accent phrase (`#`), so upstream's phones have UNK there.
PHRASE_BORDER = "UNK"
PAUSE = "_"

_MARKS = str.maketrans("：；，。！？\n·、～〜—:;", ",,,.!?.,,……-,,")
_KEPT = frozenset({*PUNCTUATION, " ", "・"})
_MORA_ENDS = frozenset({"a", "e", "i", "o", "u", "A", "E", "I", "O", "U", "N", "cl"})
_NOWHERE = -50  # silence has no place in an accent phrase
_DIGIT_NAMES = str.maketrans("0123456789", "ゼ一二三四五六七八九")
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?!\d)"), r"\1年\2月\3日"),
    (re.compile(r"(?<!\d)(\d{1,2})[:：]00(?!\d)"), r"\1時"),
    (re.compile(r"(?<!\d)(\d{1,2})[:：]0?(\d{1,2})(?!\d)"), r"\1時\2分"),
    (re.compile(r"¥(\d+(?:\.\d+)?)([万億]?)"), r"\1\2円"),
    (re.compile(r"\$(\d+(?:\.\d+)?)([万億]?)"), r"\1\2ドル"),
    (re.compile(r"€(\d+(?:\.\d+)?)([万億]?)"), r"\1\2ユーロ"),
    (re.compile(r"(?<=\d)%"), "パーセント"),
    (re.compile(r"(?<=\d)(?:°C|℃)"), "度"),
    (re.compile(r"(?<![\d\w])-(?=\d)"), "マイナス"),
)


class JapaneseReader:
    """Reads Japanese of one version by pyopenjtalk-plus.

    Args:
        prosody: with pitch marks, rise `[`, fall `]`, and voiced vowels throughout (v2 and later); without, devoiced
            vowels keep the phones `I` and `U` that the table has (v1).
    """

    def __init__(self, *, prosody: bool = True) -> None:
        self._open_jtalk = library("pyopenjtalk", purpose="Reading Japanese", extra="ja")
        self._prosody = prosody

    def read(self, text: str) -> Reading:
        """Read `text`; marks stand where they were written, and no accent phrase goes over a space."""
        norm_text = normalise(text)
        phones: list[str] = []
        for run in re.findall(r"[!?…,.\-]|[^!?…,.\- ]+", norm_text):
            phones += [run] if run in PUNCTUATION else self._phones(run)
        return Reading(norm_text, tuple(phones))

    def _phones(self, text: str) -> Iterator[str]:
        open_jtalk = self._open_jtalk
        labels = [_Label.parse(line) for line in open_jtalk.make_label(open_jtalk.run_frontend(text))]
        return _with_prosody(labels) if self._prosody else _plain(labels)


def normalise(text: str) -> str:
    """Give kana, Han, digits and upstream's marks; Open JTalk itself reads whole numbers with their counters."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = re.sub(r"(\d+)\.(\d+)", lambda m: f"{m[1]}点{_decimals(m[2])}", text)
    text = without_repeated_marks(text.replace("...", "…").translate(_MARKS))
    return "".join(character for character in text if character in _KEPT or script_of(character) is not Script.MARK)


def _decimals(digits: str) -> str:
    return digits.translate(_DIGIT_NAMES).replace("ゼ", "ゼロ")


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
