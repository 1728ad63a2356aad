"""Normalises Chinese text to Han characters and upstream's six punctuation marks."""

from __future__ import annotations

from tts_train_gpt_sovits.text.chinese.numbers import is_silent
from tts_train_gpt_sovits.text.reading import without_repeated_marks
from tts_train_gpt_sovits.text.rejected import TextRejected
from tts_train_gpt_sovits.text.scripts import Script, script_of
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

LONG_PAUSE = "^"
"""Read as the phone `SP3`; stands as a comma in the normalised text."""

_MARKS = str.maketrans("：；，。！？\n·、/—–―～~:;•・‥‼⁇⁉⁈", ",,,.!?.,,,---……,,,,…!??!")
_CANTONESE_MARKS = str.maketrans("：；，。！？\n·、/—–―～~:;•・‥‼⁇⁉⁈", ",,,.!?.,,,-----,,,,…!??!")
# Upstream reads these two interjections by characters that are in its syllable table.
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
