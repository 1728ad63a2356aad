"""What the texts of a corpus have, and what they lack of their language: letters, sounds, tags, odd writings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tts_train.corpus.language import base_language
from tts_train.findings.measure import Measured
from tts_train.findings.text.acoustics import SOUNDS
from tts_train.findings.text.fit import TextFit
from tts_train.findings.text.sounding import KNOWN, spoken, words_in
from tts_train.findings.text.spelling import TABLES

RARE = 10
"""Times that a sound should be said at least; below, a voice hardly hears it in more than one company."""
_EXAMPLES = 3
_EDGES = (0, 3, 6, 10, 15, 20, 30)
_ALPHABETS = {
    "en": "abcdefghijklmnopqrstuvwxyz",
    "es": "abcdefghijklmnopqrstuvwxyzáéíñóúü",
    "fr": "abcdefghijklmnopqrstuvwxyzàâçèéêëîïôùûüœ",
    "it": "abcdefghilmnopqrstuvzàèéìòù",
    "ru": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
}
_TAG = re.compile(r"<[^<>\s][^<>]*>")
# Of Latin, Greek, Cyrillic and Armenian: in other scripts every letter would count as one that is not small.
_CAPITALS = "".join(letter for letter in map(chr, range(0x590)) if letter.isupper())
# What front ends read in two ways or not at all; one writing counts once, for the first that fits.
_ODD: Mapping[str, re.Pattern[str]] = {
    "links": re.compile(r"\b(?:https?://|www\.)\S+|\S+@\S+\.\w+"),
    "dates_and_times": re.compile(r"\b\d{1,4}[./:-]\d{1,2}(?:[./:-]\d{1,4})?\b"),
    "amounts": re.compile(r"[$€£¥₽]\s?\d[\d.,]*|\d[\d.,]*\s?(?:[$€£¥₽%‰°]|(?:km|kg|cm|mm|m|g|h|min|s|GB|MB)\b)"),
    "long_numbers": re.compile(r"\d[\d.,]*\d"),
    "digits": re.compile(r"\d"),
    "abbreviations": re.compile(
        r"\b(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|No|vs|etc|Sra?|Srta|Ud|Uds|M|Mme|Mlle|Sig|Dott|Avv|ул|г|стр|тыс|млн|руб)\."
    ),
    "capitals": re.compile(rf"\b[{_CAPITALS}]{{2,}}\b"),
    "symbols": re.compile(r"[&@#+=*/\\_^~|<>{}\[\]]"),
}


def text_coverage(rows: Sequence[Measured]) -> dict[str, Any]:
    """Return what texts have and lack, in plain types.

    Args:
        rows: all rows; those of a language that is not known are counted as far as that goes without rules.

    Returns:
        ``words`` and ``different_words``; ``words_a_row`` as a histogram; ``tags`` by count; ``odd`` writings with how
        many rows have them and examples; ``languages`` with letters and sounds that are missing or rare.
    """
    words = [words_in(row.text) for row in rows]
    groups: dict[str, list[Measured]] = {}
    for row in rows:
        language = base_language(row.language) or row.figures.get("fit_language")
        if language in KNOWN:
            groups.setdefault(language, []).append(row)
    return {
        "words": sum(map(len, words)),
        "different_words": len({word for each in words for word in each}),
        "words_a_row": _histogram([len(each) for each in words]),
        "tags": dict(Counter(tag for row in rows for tag in _TAG.findall(row.text)).most_common()),
        "odd": _odd(rows),
        "languages": {language: _language(group, language) for language, group in sorted(groups.items())},
    }


def in_words(coverage: Mapping[str, Any]) -> Iterator[str]:
    """Say what texts lack, and what is read in two ways, a line each."""
    for language, found in coverage["languages"].items():
        if lacking := [*found.get("sounds_missing", ()), *found.get("sounds_rare", ())]:
            yield (
                f"Texts ({language}): {len(lacking)} of {found['sounds']} sounds are said less than {RARE} times: "
                f"{', '.join(lacking)}. Record sentences that have them."
            )
    for name, found in coverage["odd"].items():
        examples = ", ".join(f"'{each}'" for each in found["examples"])
        yield f"Texts: {name.replace('_', ' ')} in {found['rows']} rows ({examples}). Write them out as they are said."
    if tags := coverage["tags"]:
        yield f"Texts: tags {', '.join(f'{tag} ({count})' for tag, count in tags.items())}."


def _odd(rows: Sequence[Measured]) -> dict[str, Any]:
    found: dict[str, tuple[set[str], dict[str, None]]] = {}
    for row in rows:
        text = _TAG.sub(" ", row.text)
        for name, pattern in _ODD.items():
            here, examples = found.setdefault(name, (set(), {}))
            for match in pattern.findall(text):
                here.add(row.origin)
                examples[match.strip()] = None
            # Taken out, so that the digits of a date are not told as digits once more.
            text = pattern.sub(" ", text)
    return {
        name: {"rows": len(here), "examples": list(examples)[:_EXAMPLES]}
        for name, (here, examples) in found.items()
        if here
    }


def _language(rows: Sequence[Measured], language: str) -> dict[str, Any]:
    letters = Counter(letter for row in rows for word in words_in(row.text) for letter in word)
    found: dict[str, Any] = {"letters_missing": [letter for letter in _ALPHABETS[language] if not letters[letter]]}
    # The dictionary of English is in its wheel; what is missing says so among what is not measured.
    if language == "en" and TextFit().missing():
        return found
    # Of sounds that a letter may have, the first is the usual one.
    sounds = Counter(sound.split("/")[0] for row in rows for _, said in spoken(row.text, language) for sound in said)
    # The dictionary of English has them all; rules have those of their language.
    rules = {sound.split("/")[0] for _, said in TABLES[language] for sound in said.split()}
    due = set(SOUNDS) if language == "en" else rules
    return {
        **found,
        "sounds": len(due),
        "sounds_missing": sorted(sound for sound in due if not sounds[sound]),
        "sounds_rare": sorted(sound for sound in due if 0 < sounds[sound] < RARE),
    }


def _histogram(values: Sequence[int]) -> dict[str, int]:
    counts, _ = np.histogram(values, [*_EDGES, np.inf])
    names = [f"{low}-{high - 1}" for low, high in pairwise(_EDGES)] + [f"{_EDGES[-1]}-"]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}
