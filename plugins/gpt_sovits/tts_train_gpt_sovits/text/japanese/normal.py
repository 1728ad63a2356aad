"""Normalises Japanese to kana, Han, numbers and upstream's punctuation marks."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.expressions.leftover import (
    is_letter,
    pauses,
    refuse_references,
    require_readable,
    without_silent,
)
from tts_train_gpt_sovits.text.expressions.read import read_signs
from tts_train_gpt_sovits.text.japanese.words import JAPANESE
from tts_train_gpt_sovits.text.reading import without_repeated_marks
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

_MARKS = str.maketrans("：；，。．！？\n·、~—―–•:;", ",,,..!?.,,…---,,,")
_KEPT = frozenset({*PUNCTUATION, " ", "・"})
_LETTERS = "ぁ-ゖァ-ヺー一-鿿㐀-䶿々〆〇"
_READABLE = frozenset({*PUNCTUATION, *map(chr, _MARKS), *" ・/‥"})
_DIGIT_NAMES = str.maketrans("0123456789", "ゼ一二三四五六七八九")
_JOINED_NAME = re.compile(r"(?<=[ァ-ヺー])[=＝゠](?=[ァ-ヺ])")
_WEEKDAY = re.compile(r"(?<=\d日)\s?[(（]([日月火水木金土])[)）]")
_LOSS = re.compile(r"[▲△]\s?(?=\d)")
# A circle is said, except at the head of a line (a bullet) and as the zero of Han digits.
_RIGHT_OR_WRONG = re.compile(r"[○◯〇]×")
_CIRCLE = re.compile(
    r"(?<![\d一二三四五六七八九〇十百千])[○◯〇]{2,}"
    r"|(?<![\s\d一二三四五六七八九〇十百千])(?<!^)[○◯〇](?![\d一二三四五六七八九])"
    r"|(?m:^)[○◯〇](?=[をはがでと])"
)
_FAHRENHEIT = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s?℉")
_FROM_TO = re.compile(r"(?<=[一-鿿])~(?=[一-鿿])|(?<=[年月日時分円])~(?=[\sの、。,.!?)）]|$)")
_DECIMAL = re.compile(r"(?<![\dA-Za-z.])(\d*)\.(\d+)(?!\.?\d)|(?<=[A-Za-z])(\d+)\.(\d+)(?!\.?\d)")


def spoken_signs(text: str) -> str:
    """Write the signs about numbers as words; Open JTalk itself reads whole numbers with their counters."""
    refuse_references(text)
    text = _JOINED_NAME.sub("・", text.replace("...", "…"))
    text = _CIRCLE.sub(lambda m: "マル" * len(m[0]), _LOSS.sub("マイナス", _RIGHT_OR_WRONG.sub("マルバツ", text)))
    text = _FAHRENHEIT.sub(r"華氏\1度", text)
    text = _WEEKDAY.sub(r"\1曜日", _DECIMAL.sub(_decimal, read_signs(text, JAPANESE)))
    text = pauses(_FROM_TO.sub("から", text), _LETTERS)
    require_readable(text, _READABLE | frozenset(filter(is_letter, text)))
    return text


def normalise(text: str) -> str:
    """Give kana, Han, digits and upstream's marks.

    Raises:
        TextRejected: `unreadable_text` for a sign that has no reading where it stands.
    """
    text = spoken_signs(text).replace("‥", "…").translate(_MARKS)
    text = without_silent(text, _KEPT | frozenset(filter(is_letter, text)))
    return without_repeated_marks(re.sub(" {2,}", " ", text))


def _decimal(match: re.Match[str]) -> str:
    written, decimals = match[1] if match[3] is None else match[3], match[2] or match[4]
    whole = written.lstrip("0") or "零"
    return f"{whole}点{decimals.translate(_DIGIT_NAMES).replace('ゼ', 'ゼロ')}"
