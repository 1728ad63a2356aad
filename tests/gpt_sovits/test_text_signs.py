"""Numbers with signs in Japanese and Korean: tables of readings, what is refused, and random signs between digits."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

import pytest

from tts_train_gpt_sovits.text import FrontEnd, TextRejected
from tts_train_gpt_sovits.text.expressions.read import read_signs
from tts_train_gpt_sovits.text.japanese import JAPANESE, normalise as japanese
from tts_train_gpt_sovits.text.korean.normal import normalise as korean
from tts_train_gpt_sovits.text.korean.words import KOREAN
from tts_train_gpt_sovits.text.languages import plain_characters
from tts_train_gpt_sovits.voice.sentences import split_sentences

READINGS = Path(__file__).parent / "readings"
SPEAKERS = {"ja": (japanese, JAPANESE, "それは{}です、はい"), "ko": (korean, KOREAN, "그것은 {} 이다, 네")}


def table(language):
    with (READINGS / f"{language}.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_japanese_signs_are_words():
    read = {row["expression"]: japanese(plain_characters(row["expression"])) for row in table("ja")}
    assert read == {row["expression"]: row["normalised"] for row in table("ja")}


def test_korean_signs_and_numbers_are_words():
    read = {row["expression"]: korean(plain_characters(row["expression"])) for row in table("ko")}
    assert read == {row["expression"]: row["reading"] for row in table("ko")}


def test_open_jtalk_reads_the_japanese_table_as_it_says():
    open_jtalk = pytest.importorskip("pyopenjtalk")
    for row in table("ja"):
        runs = re.findall(r"[^!?…,.\- ]+", row["normalised"])
        assert "".join(open_jtalk.g2p(run, kana=True) for run in runs) == row["reading"], row["expression"]


UNREADABLE = ["あ*い", "5_000", "あ|い", "^_^", "a\\b", "A&amp;B", "5′ 3″", "1∴2", "<br>", "가℃"]


@pytest.mark.parametrize("read", [japanese, korean])
@pytest.mark.parametrize("text", UNREADABLE)
def test_what_has_no_reading_is_refused_by_name(read, text):
    with pytest.raises(TextRejected) as refused:
        read(text)
    assert refused.value.reason == "unreadable_text"


@pytest.mark.parametrize(
    ("text", "norm_text"),
    [
        ("3(5)と7「9」", "3,5と7,9"),
        ("5$6", "5 6ドル"),
        ("男/女", "男,女"),
        ("東京→大阪", "東京,大阪"),
        ("東京～大阪", "東京から大阪"),
        ("ジャン＝ジャック", "ジャン・ジャック"),
        ("＜笑＞はい♪", "笑はい"),
        ("○×クイズに○○さん", "マルバツクイズにマルマルさん"),
        ("正解は○で、〇をつけ、三〇〇円の○○", "正解はマルで,マルをつけ,三〇〇円のマルマル"),
        ("はい､それは──25˚Cで⋯⋯", "はい,それは-25度で…"),
        ("24/7", "24, 7"),
        ("1日3回×7日", "1日3回かける7日"),
        ("03ー1234ー5678", "ゼロサンの一二三四の五六七八"),
        ("Vol.3", "Vol 3"),
    ],
)
def test_japanese_numbers_and_words_stay_apart(text, norm_text):
    assert japanese(text) == norm_text


@pytest.mark.parametrize(
    ("text", "norm_text"),
    [
        ("사과ㆍ배・감", "사과,배,감"),
        ("3ㆍ1절", "삼일절"),
        ("남/여 3(5)", "남,여 삼(오)"),
        ("5$6", "오 육달러"),
        ("서울→부산", "서울,부산"),
        ("25ºC⋯", "이십오도…"),
    ],
)
def test_korean_numbers_and_words_stay_apart(text, norm_text):
    assert korean(text) == norm_text


@pytest.mark.parametrize("language", ["ja", "ko"])
@pytest.mark.parametrize("length", [37, 400, 4000])
def test_numbers_of_any_length(language, length):
    read, _, carrier = SPEAKERS[language]
    for number in ("7" * length, "0" * length, "7" * length + "." + "3" * length, "-" + "7" * length + "%"):
        assert read(carrier.format(number))


SIGNS = (
    *"+-−×÷*/=<>±≈≤≥.,:;~〜–—%‰$¥€£₩°℃²₂√#@&()\"'^_|→①½ ",
    *("km/h", "kg", "m²", "GB", "年", "円", "개", "시", "USD", "v"),
)
NUMBERS = ["0", "1", "2", "5", "12", "30", "100", "2024", "31415"]


def refusal(read, text):
    """Give what `read` makes of `text`, or the reason why it refuses to."""
    try:
        return read(text), None
    except TextRejected as refused:
        return "", refused.reason


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_random_signs_between_digits_are_read_or_refused_and_never_join_them(language):
    read, words, carrier = SPEAKERS[language]
    chance, kept = random.Random(f"signs {language}"), 0
    for _ in range(600):
        pieces = [chance.choice(NUMBERS) + "".join(chance.choices(SIGNS, k=chance.randint(1, 2))) for _ in range(4)]
        text = carrier.format("".join(pieces))
        written_out = text.replace("①", " 1 ").replace("½", " 1/2 ")
        given = re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", written_out))
        allowed = {*given, *(number.lstrip("0") or "0" for number in given), "1", "2", "3"}
        assert allowed.issuperset(re.findall(r"\d+", read_signs(text, words))), text
        spoken, reason = refusal(read, text)
        assert reason in {None, "unreadable_text"}, text
        assert not re.search(r"[^\w\s!?…,.\-・'\"()]" if language == "ja" else r"[^\w\s!?…,.\-'\"()]|\d", spoken), text
        assert allowed.issuperset(re.findall(r"\d+", spoken)), (text, spoken)
        kept += reason is None
    assert kept > 100


def test_korean_rows_of_any_signs_are_spoken_or_refused():
    pytest.importorskip("MeCab")
    front_end, chance = FrontEnd("v2"), random.Random("rows")
    for _ in range(100):
        text = "".join(chance.choices([*"0123456789+-×=/:~%$₩.,가나는요개시 ", "km", "iPhone"], k=12))
        spoken, reason = refusal(lambda text: front_end.speak(text, "ko"), text)
        assert reason in {"unreadable_text", "empty_text"} or spoken.ids, text


def test_a_long_text_is_not_cut_inside_a_date_or_a_number():
    text = "これは世界のNo. 1の店です。 우리는 모두 2019. 4. 8. 아침에 떠났다. He said no. We left."
    assert split_sentences(text) == [
        "これは世界のNo. 1の店です。", "우리는 모두 2019. 4. 8.", "아침에 떠났다.", "He said no.", "We left.",
    ]  # fmt: skip


def test_signs_beside_latin_letters_are_read_in_the_language_of_the_row():
    front_end = FrontEnd("v2")
    spoken = front_end.speak("값은 US$30, 그림은 3D, 식은 x²", "ko")
    assert spoken.norm_text == "값은 삼십달러, 그림은 쓰리디, 식은x의 제곱"
    assert [part.language for part in spoken.parts] == ["ko", "en", "ko"]
