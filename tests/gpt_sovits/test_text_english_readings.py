"""English numbers and signs: a table of readings, and what holds for any text."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tts_train_gpt_sovits.text import FrontEnd, TextRejected
from tts_train_gpt_sovits.text.english.amounts import NAMES, UNITS, plural
from tts_train_gpt_sovits.text.english.codes import WORDS
from tts_train_gpt_sovits.text.english.signs import SPOKEN
from tts_train_gpt_sovits.voice.sentences import split_sentences

TABLE = Path(__file__).parent / "readings" / "en.tsv"
NUMBERS_TEXT = """
zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion
quadrillion first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth
eightieth ninetieth hundredth thousandth zeroth half halves quarter quarters point
"""
NUMBERS = tuple(NUMBERS_TEXT.split())
OTHERS_TEXT = """
negative minus plus equal equals less greater than to of the and a an at over out by about approximately squared
cubed power times divided percent number numbers hash hashtag sharp dot slash dash colon underscore tilde question
mark hours minutes seconds o clock not with without May saint street
"""
OTHERS = tuple(OTHERS_TEXT.split())
PIECES = [
    "kg",
    "km/h",
    "GB",
    "pm",
    "°C",
    "m²",
    "US$",
    "bn",
    "M",
    "K",
    "th",
    "s",
    "No.",
    "May",
    "x",
    "ft",
    "st",
    "A",
    "b",
]
SIGNS = "0123456789" * 4 + "+-*/=<>^%$€£¥₹#@&~.,:;'\"()°²³₂½¾×÷±≈–—| " + "  "
SAID = {
    "+": "plus", "=": "equals? equal", "%": "percent", "$": "dollars? cents?", "€": "euros? cents?",
    "£": "pounds? penny pence",
    "¥": "yen", "₹": "rupees? paisa paise", "#": "number hashtag hash sharp", "@": "at", "&": "and", "°": "degrees?",
    "×": "times by",
    "÷": "divided", "±": "minus", "½": "half", "¾": "quarters", "²": "squared? two twenty power",
    "³": "cubed cubic three thirty power", "₂": "two",
}  # fmt: skip


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2")


def rows() -> list[list[str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("# ")][1:]


def plain(text: str) -> list[str]:
    """Words without marks; hyphens and capitals are no matter of reading."""
    return re.sub(r"[.,?!-]", " ", text).lower().split()


def reading(front_end: FrontEnd, text: str) -> str:
    """What a text is read as, or the reason why it is refused."""
    try:
        return front_end.speak(text, "en").norm_text
    except TextRejected as error:
        return f"!{error.reason}"


def test_expressions_are_read_as_a_native_speaker_reads_them(front_end):
    wrong = []
    for text, expected, _ in rows():
        said = reading(front_end, text)
        if plain(said) != plain(expected):
            wrong.append((text, expected, said))
    assert not wrong
    assert len(rows()) >= 180


def test_signs_without_a_reading_are_named(front_end):
    with pytest.raises(TextRejected, match=r"'∑' \(N-Ary Summation\)") as caught:
        front_end.speak("the ∑ of it", "en")
    assert caught.value.reason == "unreadable_text"
    assert "write it as words" in caught.value.detail


def test_any_mixture_of_signs_is_read_whole_or_refused(front_end):
    numbers = {form for word in NUMBERS for form in (word, f"{word}s", f"{word}es", re.sub("y$", "ies", word))}
    known = numbers | {word.lower() for word in OTHERS} | set("abcdefghijklmnopqrstuvwxyz")
    for name in (*UNITS.values(), *map(plural, UNITS.values()), *SPOKEN.values(), *WORDS.values()):
        known |= set(name.lower().split())
    for names in NAMES.values():
        known |= {word.lower() for name in names for word in name.split()}
    chance = random.Random(10)
    read = 0
    for _ in range(250):
        mixture = "".join(
            chance.choice(PIECES) if chance.random() < 0.15 else chance.choice(SIGNS)
            for _ in range(chance.randint(1, 10))
        )
        text = f"We saw {mixture} there."
        said = reading(front_end, text)
        if said == "!unreadable_text":
            continue
        read += 1
        assert re.fullmatch(r"[A-Za-z .,?!'-]+", said), (text, said)
        given = text.lower()
        strange = [w for w in re.findall(r"[a-z]+", said.lower()) if w not in known and w not in given]
        assert not strange, (text, said)
        for sign, words in SAID.items():
            assert sign not in text or re.search(rf"\b(?:{words.replace(' ', '|')})\b", said), (text, said)
        assert not re.search(r"\d", text) or numbers & set(re.findall(r"[a-z]+", said)), (text, said)
    assert read > 100


def test_an_abbreviation_ends_no_sentence():
    text = "Ask Dr. Weber, e.g. Hanna Weber of No. 7, at 5 p.m. on Monday. J. R. Hill will be there. We leave at noon."
    assert split_sentences(text) == [
        "Ask Dr. Weber, e.g. Hanna Weber of No. 7, at 5 p.m. on Monday.",
        "J. R. Hill will be there.",
        "We leave at noon.",
    ]
