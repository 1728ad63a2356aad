"""Reads numbers and signs aloud in Chinese characters: one pass over a row of text (shared by zh and yue)."""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.chinese.amounts import AMOUNTS, DECIMAL
from tts_train_gpt_sovits.text.chinese.dates import CODES, DATES, HONG_KONG_TELEPHONE, TELEPHONES
from tts_train_gpt_sovits.text.chinese.digits import HAN_DIGITS, Rule, cardinal
from tts_train_gpt_sovits.text.chinese.signs import folded, follows_number, sign
from tts_train_gpt_sovits.text.chinese.units import MONEY
from tts_train_gpt_sovits.text.rejected import TextRejected

_HASH_NUMBER = re.compile(r"# ?([0-9]{1,4})(?![0-9])")
_RULES: tuple[Rule, ...] = (*TELEPHONES, *DATES, *CODES, *AMOUNTS, DECIMAL)
_LETTERS_OF_MONEY = frozenset(sign[0] for sign in MONEY if sign[0].isalpha())
_OPERATORS = frozenset("-−–—~+")
_TRADITIONAL = str.maketrans(
    "点两负万亿减约于欧镑号时华摄顷韩卢铢兰无穷线问数为币马来亚",
    "點兩負萬億減約於歐鎊號時華攝頃韓盧銖蘭無窮線問數為幣馬來亞",
)


def spoken_numbers(text: str, *, cantonese: bool = False) -> str:
    """Replace every number and sign of `text` that has a reading by the characters it is read with.

    The forms are those of upstream's normaliser (years and telephone numbers digit by digit, 1 as 幺 in the latter,
    百分之, 分之, 零下, 点). Unlike upstream's, a bare number of three digits or more is read as a quantity, not digit
    by digit; only a leading zero or more than twelve digits make it a row of digits. Signs without a reading stay.

    Args:
        text: a whole row, pieces in other languages included, for a sign belongs to the number beside it.
        cantonese: write what is read in traditional characters, with 一 in telephone numbers and 元 for `$`, and know
            Hong Kong's telephone numbers.

    Raises:
        TextRejected: `unreadable_text` for an expression that has no settled reading.
    """
    if cantonese:
        text = re.sub(r"(?<![A-Za-z])\$(?=[0-9.,]+ ?蚊)", "", text)
        text = re.sub(r"(?<![A-Za-z])\$", "¥", text)
    form = _TRADITIONAL if cantonese else {}
    text = folded(text, form)
    rules = (HONG_KONG_TELEPHONE, *_RULES) if cantonese else _RULES
    said: list[str] = []
    place, end = 0, -1
    while place < len(text):
        found = _at(text, place, rules)
        if found is None:
            said.append(text[place])
            place += 1
            continue
        spoken, length = found
        if end >= 0 and _would_join(said, text[end:place], spoken):
            said.append(",")
        said.append(spoken.translate(form))
        place = end = place + length
    spoken = "".join(said)
    unread = re.search("[%‰‱°<>]", spoken)  # behind Latin letters they would be left to English
    if unread:
        raise TextRejected("unreadable_text", f"{unread[0]!r} in {text[:40]!r} stands by no number; write it in words")
    return spoken.replace("幺", "一") if cantonese else spoken


def _at(text: str, place: int, rules: tuple[Rule, ...]) -> tuple[str, int] | None:
    """Read what begins at `place`; None where that is plain text."""
    mark = text[place]
    if mark.isascii() and mark.isalpha() and mark not in _LETTERS_OF_MONEY and mark not in "xX":
        return None
    if mark.isspace() or "\u4e00" <= mark <= "\u9fff":
        return None
    if not (mark in _OPERATORS and follows_number(text[:place])):
        for pattern, read in rules:
            match = pattern.match(text, place)
            if match and (spoken := read(match)) is not None:
                return spoken, match.end() - place
    numbered = _HASH_NUMBER.match(text, place)
    if numbered and not follows_number(text[:place]):
        return f"{cardinal(numbered[1])}号", numbered.end() - place
    return sign(text, place)


def _would_join(said: list[str], gap: str, spoken: str) -> bool:
    """Tell whether two numbers would run into one: nothing that is heard stands between them."""
    return (
        said[-1 - len(gap)][-1:] in HAN_DIGITS
        and spoken[:1] in HAN_DIGITS
        and all(is_silent(character) for character in gap)
    )


def is_silent(character: str) -> bool:
    """Tell whether a character is not read aloud and may be left out: spaces, quotes, brackets, pictures."""
    category = unicodedata.category(character)
    picture = category == "So" and (ord(character) > 0x2300 or character in "©®™")
    return (
        picture
        or category in {"Zs", "Ps", "Pe", "Pi", "Pf", "Mn", "Me", "Cf"}
        or character in "\"'`＂＇\t\r\u2028\u2029「」『』"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
