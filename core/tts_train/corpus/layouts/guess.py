"""What the columns of a table without a header hold, told by what stands in them; asked where that is not certain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean, median

from tts_train.corpus.rows.columns import UNUSED
from tts_train.corpus.rows.names import is_audio

_CODES = (
    "af am ar as az be bg bn bs ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja jp jw ka kk "
    "km kn ko kr ky la lb lo lt lv mk ml mn mr ms mt my ne nl no or pa pl ps pt ro ru sa sd si sk sl so sq sr su sv sw "
    "ta te tg th tl tr tt uk ur uz vi yue zh auto all_zh all_ja all_yue all_ko auto_yue chinese english japanese "
    "korean cantonese german french spanish italian russian portuguese"
)
_LANGUAGES = frozenset(_CODES.split())
_NOTHING = frozenset({"", "_", "-", "none", "null", "nan", "n/a"})
_END = re.compile(r"[.!?,;:。！？、，；：…।॥؟۔」』”\"')]$")
# Scripts that put no blanks between words.
_WIDE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBERS = re.compile(r"[\[(]?\s*-?\d+(\.\d+)?([\s,]+-?\d+(\.\d+)?)+\s*[\])]?")
# Pinyin or Jyutping with the number of its tone, of which Jyutping has six; or a mark.
_SYLLABLE = re.compile(r"[a-züA-Z]+[0-6]|[^\w\s]")
# IPA's marks of primary and secondary stress, and of length.
_STRESS = re.compile("[\u02c8\u02cc\u02d0]")

_FEW_ROWS = 8
"""Below, it says little that a column's values all differ."""


class Unclear(Exception):
    """It cannot be told what the columns are; the message says why."""


def guess_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the meaning of each column of rows of one width; ``-`` for what is not used.

    Raises:
        Unclear: if another reading is as likely.
    """
    columns = [[value.strip() for value in column] for column in zip(*rows, strict=True)]
    audio = _audio_column(columns)
    found = [UNUSED] * len(columns)
    found[audio] = "audio"
    others = [number for number in range(len(columns)) if number != audio]
    if len(others) == 1:
        found[others[0]] = "text"
        return found
    kinds = {number: _kind(columns[number]) for number in others}
    languages = [number for number in others if kinds[number] == "language"]
    if len(languages) > 1:
        raise Unclear("several columns look like languages")
    if list(kinds.values()).count("seconds") > 1:
        raise Unclear("several columns look like times")
    for number in languages:
        found[number] = "language"
    words = [number for number in others if kinds[number] == "words"]
    for number, meaning in zip(words, _read_words([columns[number] for number in words]), strict=True):
        found[number] = meaning
    return found


def is_language(value: str) -> bool:
    """Tell whether a value is a code or an English name of a language."""
    plain = value.strip().lower()
    return plain in _LANGUAGES or plain.replace("_", "-").partition("-")[0] in _LANGUAGES


def is_text(values: Sequence[str]) -> bool:
    """Tell whether at least half of the values look like something said: several words, or an end of a sentence."""
    return _share(values, _says_something) >= 0.5


def ends_sentence(value: str) -> bool:
    """Tell whether a value ends in a mark that ends a sentence or a part of one."""
    return bool(_END.search(value))


def _audio_column(columns: Sequence[Sequence[str]]) -> int:
    named = [number for number, values in enumerate(columns) if _share(values, _is_audio_name) >= 0.9]
    if len(named) > 1:
        raise Unclear("several columns name audio files")
    if not named and is_text(columns[0]) and not any("/" in value or "\\" in value for value in columns[0]):
        raise Unclear("no column names audio files")
    # Rows may share a recording where times tell its stretches apart.
    if not named and len(columns) > 2 and _repeats(columns[0]) and "seconds" not in map(_kind, columns[1:]):
        raise Unclear("the first column holds most values more than once, and so names no recordings")
    return named[0] if named else 0


def _is_audio_name(value: str) -> bool:
    return is_audio(value.replace("\\", "/").rpartition("/")[2])


def _kind(values: Sequence[str]) -> str:
    filled = [value for value in values if value.lower() not in _NOTHING]
    if not filled:
        return "nothing"
    if all(map(is_language, filled)):
        return "language"
    if all(map(_NUMBERS.fullmatch, filled)):
        return "numbers"
    if all(re.fullmatch(r"\d+\.\d+", value) for value in filled):
        return "seconds"
    return "phones" if _share(filled, _is_phones) >= 0.8 else "words"


def _is_phones(value: str) -> bool:
    """Stress marks of IPA, syllables with the number of their tone, or many symbols of one or two letters."""
    symbols = value.split()
    if _STRESS.search(value) or (len(symbols) > 1 and all(map(_SYLLABLE.fullmatch, symbols))):
        return True
    return len(symbols) >= 3 and value.isascii() and fmean(map(len, symbols)) < 2.3


def _read_words(columns: Sequence[Sequence[str]]) -> list[str]:
    """Tell names from texts among the columns that hold words."""
    if not columns:
        raise Unclear("no column looks like a text")
    if len(columns) == 1:
        (only,) = columns
        if _all_whole(only) or (_repeats(only) and not is_text(only)):
            raise Unclear("no column looks like a text")
        return ["text"]
    if len(columns) == 2:
        first, second = columns
        if _alike(first, second):
            return ["text", "normalised"]
        names = [_are_names(first, second), _are_names(second, first)]
        if names[0] == names[1]:
            raise Unclear("it cannot be told which column is the text and which the speaker")
        return ["speaker", "text"] if names[0] else ["text", "speaker"]
    if len(columns) == 3:
        first, second, third = columns
        if _are_names(first, second) and _alike(second, third):
            return ["speaker", "text", UNUSED]
        if _alike(first, second) and _are_names(third, second):
            return ["text", "normalised", "speaker"]
    raise Unclear("too many columns hold words")


def _are_names(names: Sequence[str], texts: Sequence[str]) -> bool:
    """Tell whether one column is certain to name speakers if the other is what they say."""
    if not is_text(texts) and not (_all_whole(names) and _share(texts, _has_letters) >= 0.5):
        return False
    rows, kinds = len(names), len(set(names))
    # A name for each row is no speaker, but perhaps a title or an id.
    if rows >= _FEW_ROWS and kinds == rows:
        return False
    if _repeats(names) and len(set(texts)) >= 2 * kinds:
        return True
    if _all_whole(names):
        return not _all_whole(texts)
    longer = fmean(map(len, texts)) / max(fmean(map(len, names)), 1)
    # Names are short and say nothing; texts are longer than them even where rows are few.
    if longer > 1.5 and _share(names, lambda value: not _says_something(value)) >= 0.95:
        return True
    return longer > 2 and _share(texts, ends_sentence) >= 0.8 and _share(names, ends_sentence) <= 0.05


def _repeats(values: Sequence[str]) -> bool:
    return len(values) >= 4 and len(set(values)) * 2 <= len(values)


def _all_whole(values: Sequence[str]) -> bool:
    return all(value.isdecimal() for value in values)


def _has_letters(value: str) -> bool:
    return any(map(str.isalpha, value))


def _says_something(value: str) -> bool:
    return len(value.split()) > 1 or ends_sentence(value) or len(_WIDE.findall(value)) > 4


def _alike(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether two columns hold the same texts, one of them spelt out."""
    both = [(one, other) for one, other in zip(first, second, strict=True) if one and other]
    return bool(both) and median(_overlap(one, other) for one, other in both) >= 0.5


def _overlap(one: str, other: str) -> float:
    """Share of the pairs of neighbouring characters that two texts have in common (Dice)."""
    first, second = _pairs(one), _pairs(other)
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else float(one == other)


def _pairs(text: str) -> Counter[str]:
    plain = "".join(filter(str.isalnum, text.casefold()))
    return Counter(plain[at : at + 2] for at in range(len(plain) - 1)) if len(plain) > 1 else Counter([plain])


def _share(values: Sequence[str], test: Callable[[str], object]) -> float:
    return sum(bool(test(value)) for value in values) / len(values) if values else 0.0
