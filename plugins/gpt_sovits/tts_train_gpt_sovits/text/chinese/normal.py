"""Normalises Chinese: numbers and signs to the characters they are read with, then Han and upstream's six marks.

Numbers are read in one pass over a row of text, which Mandarin and Cantonese share.
"""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.chinese.amounts import AMOUNTS, DECIMAL
from tts_train_gpt_sovits.text.chinese.dates import CODES, DATES, HONG_KONG_TELEPHONE, TELEPHONES
from tts_train_gpt_sovits.text.chinese.signs import folded, follows_number, sign
from tts_train_gpt_sovits.text.chinese.units import HAN_DIGITS, MONEY, Rule, cardinal
from tts_train_gpt_sovits.text.languages import Script, script_of
from tts_train_gpt_sovits.text.reading import PUNCTUATION, TextRejected, without_repeated_marks

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
        # In Hong Kong $ is 元; written as ¥, the rules of Mandarin read it so.
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
        # 3 5 must not become 三十五 nor 三五.
        if end >= 0 and _would_join(said, text[end:place], spoken):
            said.append(",")
        said.append(spoken.translate(form))
        place = end = place + length
    spoken = "".join(said)
    unread = re.search("[%‰‱°<>]", spoken)  # behind Latin letters they would be left to English
    if unread:
        raise TextRejected("unreadable_text", f"{unread[0]!r} in {text[:40]!r} stands by no number; write it in words")
    # Cantonese telephone numbers have 一.
    return spoken.replace("幺", "一") if cantonese else spoken


def _at(text: str, place: int, rules: tuple[Rule, ...]) -> tuple[str, int] | None:
    """Read what begins at `place`; None where that is plain text."""
    mark = text[place]
    # English is read by another reader; only codes of money and a cross between numbers concern this one.
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


LONG_PAUSE = "^"
"""Read as the phone `SP3`; stands as a comma in the normalised text."""

_MARKS = str.maketrans("：；，。！？\n·、/—–―～~:;•・‥‼⁇⁉⁈", ",,,.!?.,,,---……,,,,…!??!")
# As above but for the wave dash, which upstream makes a dash in Cantonese (text/cantonese.py) and an ellipsis in
# Mandarin (text/chinese2.py).
_CANTONESE_MARKS = str.maketrans("：；，。！？\n·、/—–―～~:;•・‥‼⁇⁉⁈", ",,,.!?.,,,-----,,,,…!??!")
# Upstream reads 嗯 and 呣 by characters whose syllables its table has (text/chinese2.py); 〇 is 零 written otherwise.
_INTERJECTIONS = str.maketrans("嗯呣〇", "恩母零")


def normalise_mandarin(text: str) -> str:
    """Give simplified-or-given Han, `! ? … , . -` and `^`; quotes, brackets and pictures are left out as unspoken.

    Raises:
        TextRejected: `unreadable_text` for any other sign, which would be left out in silence.
    """
    text = text.replace("...", "…").translate(_INTERJECTIONS).translate(_MARKS)
    return without_repeated_marks(_kept(text, "".join(PUNCTUATION) + LONG_PAUSE))


def normalise_cantonese(text: str) -> str:
    """Give Han as written and the six marks; `~` and dashes become `-` and repeated marks stay, as in upstream's.

    Raises:
        TextRejected: as of `normalise_mandarin`.
    """
    text = text.replace("...", "…").replace("〇", "零").translate(_CANTONESE_MARKS)
    return _kept(text, "".join(PUNCTUATION))


def _kept(text: str, marks: str) -> str:
    kept = [c for c in text if not is_silent(c)]
    unread = sorted({c for c in kept if c not in marks and script_of(c) is not Script.HAN})
    if unread:
        raise TextRejected(
            "unreadable_text",
            f"{' '.join(map(repr, unread[:8]))} in {text[:40]!r} cannot be read in Chinese; write it in words",
        )
    return "".join(kept)
