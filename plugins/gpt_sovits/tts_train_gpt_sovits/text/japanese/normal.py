"""Normalises Japanese to kana, Han, numbers and upstream's punctuation marks."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.expressions.leftover import pauses, refuse_references, without_silent
from tts_train_gpt_sovits.text.expressions.read import read_signs
from tts_train_gpt_sovits.text.japanese.words import JAPANESE
from tts_train_gpt_sovits.text.reading import without_repeated_marks
from tts_train_gpt_sovits.text.scripts import Script, script_of
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

_MARKS = str.maketrans("：；，。！？\n·、~—―–•:;", ",,,.!?.,,…---,,,")
_KEPT = frozenset({*PUNCTUATION, " ", "・"})
_LETTERS = "ぁ-ゖァ-ヺー一-鿿㐀-䶿々〆〇"
_DIGIT_NAMES = str.maketrans("0123456789", "ゼ一二三四五六七八九")
_JOINED_NAME = re.compile(r"(?<=[ァ-ヺー])[=＝゠](?=[ァ-ヺ])")
_WEEKDAY = re.compile(r"(?<=\d日)\s?[(（]([日月火水木金土])[)）]")
_FROM_TO = re.compile(r"(?<=[一-鿿])~(?=[一-鿿])")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?!\.?\d)")


def spoken_signs(text: str) -> str:
    """Write the signs about numbers as words; Open JTalk itself reads whole numbers with their counters."""
    refuse_references(text)
    text = _JOINED_NAME.sub("・", text.replace("...", "…").replace("○×", "マルバツ"))
    text = _WEEKDAY.sub(r"\1曜日", _DECIMAL.sub(_decimal, read_signs(text, JAPANESE)))
    return pauses(_FROM_TO.sub("から", text), _LETTERS)


def normalise(text: str) -> str:
    """Give kana, Han, digits and upstream's marks.

    Raises:
        TextRejected: `unreadable_text` for a sign that has no reading where it stands.
    """
    text = spoken_signs(text).replace("‥", "…").translate(_MARKS)
    letters = frozenset(character for character in text if script_of(character) is not Script.MARK)
    return without_repeated_marks(without_silent(text, _KEPT | letters))


def _decimal(match: re.Match[str]) -> str:
    whole, decimals = match[1].lstrip("0") or "零", match[2]
    return f"{whole}点{decimals.translate(_DIGIT_NAMES).replace('ゼ', 'ゼロ')}"
