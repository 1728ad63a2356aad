"""Cantonese: Jyutping with tones as `Y`-prefixed phones, two a character."""

from __future__ import annotations

import pytest

from tts_train_gpt_sovits.text import FrontEnd
from tts_train_gpt_sovits.text.cantonese import syllable_phones
from tts_train_gpt_sovits.text.reading import symbol_table

pytest.importorskip("ToJyutping")
pytest.importorskip("cn2an")


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2")


@pytest.mark.parametrize(
    ("jyutping", "phones"),
    [
        ("gwong2", "Ygw Yong2"), ("hoeng1", "Yh Yoeng1"), ("ngo5", "Yng Yo5"), ("jyu4", "Yj Yyu4"),
        ("kwan4", "Ykw Yan4"),
        ("m4", "Ym Ym4"), ("ng5", "Yng Yg5"), ("oi3", "Yoi Yi3"), ("uk1", "Yuk Yk1"), ("aa3", "Yaa Ya3"),
        ("on1", "Yon Yn1"), ("zeot6", "Yz Yeot6"),
    ],
)  # fmt: skip
def test_syllables_split_as_in_upstreams_table(jyutping, phones):
    assert " ".join(syllable_phones(jyutping)) == phones
    assert symbol_table("v2").ids_of(phones.split())


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("你好。", "Yn Yei5 Yh You2 ."),
        ("香港", "Yh Yoeng1 Yg Yong2"),
        ("唔該！", "Ym Ym4 Yg Yoi1 !"),
        ("我係人", "Yng Yo5 Yh Yai6 Yj Yan4"),
        ("三個", "Ys Yaam1 Yg Yo3"),
        ("3個", "Ys Yaam1 Yg Yo3"),
        ("屋企", "Yuk Yk1 Yk Yei2"),
        ("好～", "Yh You2 -"),
        ("食飯", "Ys Yik6 Yf Yaan6"),
    ],
)
def test_six_tones_and_marks(front_end, text, phones):
    spoken = front_end.speak(text, "Yue")
    assert " ".join(spoken.phones) == phones
    assert spoken.word2ph is not None
    assert len(spoken.word2ph) == len(spoken.norm_text)
    assert sum(spoken.word2ph) == len(spoken.phones)


def test_english_inside_a_cantonese_row(front_end):
    spoken = front_end.speak("我用Python", "yue")
    assert " ".join(spoken.phones) == "Yng Yo5 Yj Yung6 P AY1 TH AA0 N"
    assert [part.language for part in spoken.parts] == ["yue", "en"]
