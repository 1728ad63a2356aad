"""Chinese and Cantonese numbers and signs against the tables of readings, and against random expressions."""

from __future__ import annotations

import random
import re
import unicodedata
from pathlib import Path

import pytest

from tts_train_gpt_sovits.text import FrontEnd, TextRejected
from tts_train_gpt_sovits.text.chinese.normal import spoken_numbers
from tts_train_gpt_sovits.text.languages import plain_characters

for library in ("pypinyin", "jieba", "cn2an", "opencc", "ToJyutping"):
    pytest.importorskip(library)

TABLES = Path(__file__).parent / "readings"
NOT_HEARD = "[ ()\"'（）《》]"


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2")


def rows_of(language):
    lines = (TABLES / f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines if not line.startswith("#")]
    assert rows[0] == ("expression", "reading", "source")
    return rows[1:]


def reading_of(front_end, text, language):
    """Speak the text, and give its reading as it is before the marks are made upstream's."""
    try:
        spoken = front_end.speak(text, language)
    except TextRejected as rejected:
        return f"!{rejected.reason}"
    reading = re.sub(NOT_HEARD, "", spoken_numbers(plain_characters(text), cantonese=language == "yue"))
    if all(part.language == language for part in spoken.parts):
        assert spoken.norm_text == re.sub("[，、]", ",", reading)
    return reading


@pytest.mark.parametrize("language", ["zh", "yue"])
def test_readings_are_those_of_the_table(front_end, language):
    rows = rows_of(language)
    wrong = {}
    for expression, reading, _ in rows:
        found = reading_of(front_end, expression, language)
        if found != reading.replace(" ", ""):
            wrong[expression] = (found, reading)
    assert len(rows) >= 40
    assert all(source for *_, source in rows)
    assert wrong == {}


def test_signs_that_stand_by_no_number_drop_the_row(front_end):
    for text in ("他%我", "价格是%左右", "他<b>说", "见第|页", "甲→乙", "一_二", "这是\\吧", "写*号"):
        for language in ("zh", "yue"):
            assert reading_of(front_end, text, language) == "!unreadable_text", text


def test_numbers_of_any_length_are_read():
    for digits in ("7" * 13, "7" * 40, "7" * 5000):
        for expression in (
            digits,
            f"${digits}M",
            f"{digits}%",
            f"3/{digits}",
            f"{digits}:2",
            f"{digits}年",
            f"-{digits}",
        ):
            assert not re.search("[0-9%/:$-]", spoken_numbers(expression))


WORDS = {
    "+": "加正", "×": "乘", "÷": "除", "=": "等", "±": "负", "<": "小", ">": "大", "≈": "约", "%": "百", "‰": "千",
    "°": "度", "$": "美", "€": "欧", "£": "镑",
}  # fmt: skip
BETWEEN = ("-", "~", "–", "/", ":", ".", ",", "¥", "²", " ", "km/h", "kg", "℃", "m²", "元", "年", "个", *WORDS)


def random_expression(random_numbers):
    pieces = [""]
    for _ in range(random_numbers.randint(1, 7)):
        number_fits = not re.search("[0-9a-z]$", pieces[-1])
        if number_fits and random_numbers.random() < 0.5:
            pieces.append(str(random_numbers.choice([0, 2, 7, 15, 24, 100, 305, 2024, 68130])))
        else:
            pieces.append(random_numbers.choice(BETWEEN))
    return "".join(pieces)


def test_no_number_is_lost_or_joined_and_no_sign_left_out(front_end):
    random_numbers = random.Random(10)
    read = 0
    for _ in range(400):
        expression = random_expression(random_numbers)
        try:
            spoken = front_end.speak(f"今天说了{expression}这些话", "zh")
        except TextRejected as rejected:
            assert rejected.reason == "unreadable_text"  # noqa: PT017 - most are read
            continue
        read += 1
        reading = "".join(part.norm_text for part in spoken.parts if part.language == "zh")[4:-3]
        assert not any(unicodedata.category(character) in {"Nd", "No", "Sc", "Sm"} for character in reading), expression
        # Thousands are grouped by commas, and :00 of a time is not said.
        numbers = re.findall("[0-9]+", re.sub("(?<=[0-9]),(?=[0-9]{3}(?![0-9]))|:00(?![0-9])", "", expression))
        assert len(re.findall("[零一二两三四五六七八九十百千万亿幺半]+", reading)) >= len(numbers), (
            expression,
            reading,
        )
        for sign, words in WORDS.items():
            assert sum(map(reading.count, words)) >= expression.replace("==", "=").count(sign), (expression, reading)
    assert read > 200
