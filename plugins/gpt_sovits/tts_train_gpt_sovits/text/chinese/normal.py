"""Normalises Chinese text to Han characters and upstream's six punctuation marks."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.chinese.numbers import spoken_numbers
from tts_train_gpt_sovits.text.reading import without_repeated_marks
from tts_train_gpt_sovits.text.scripts import Script, script_of
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

LONG_PAUSE = "^"
"""Read as the phone `SP3`; stands as a comma in the normalised text."""

_MARKS = str.maketrans("：；，。！？\n·、$/—～~:;•・", ",,,.!?.,,.,-……,,,,")
_CANTONESE_MARKS = str.maketrans("：；，。！？\n·、$—～~:;•・", ",,,.!?.,,.---,,,,")
# Upstream reads these two interjections by characters that are in its syllable table.
_INTERJECTIONS = str.maketrans("嗯呣〇", "恩母零")


def normalise_mandarin(text: str) -> str:
    """Give simplified-or-given Han, `! ? … , . -` and `^`; everything else is dropped as unspoken."""
    text = _spoken(text).translate(_INTERJECTIONS).translate(_MARKS)
    return without_repeated_marks(_kept(text, "".join(PUNCTUATION) + LONG_PAUSE))


def normalise_cantonese(text: str) -> str:
    """Give Han as written and the six marks; `~` and dashes become `-` and repeated marks stay, as in upstream's."""
    text = _spoken(text).replace("〇", "零").translate(_CANTONESE_MARKS)
    return _kept(text, "".join(PUNCTUATION))


def _spoken(text: str) -> str:
    return spoken_numbers(re.sub(r"(?<=[^\d\s])\s+|\s+(?=\D)", "", text)).replace("...", "…")


def _kept(text: str, marks: str) -> str:
    return "".join(character for character in text if character in marks or script_of(character) is Script.HAN)
