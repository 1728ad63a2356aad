"""Japanese: phonemes with pitch marks from dictionary accents, numbers, marks and mixed text."""

from __future__ import annotations

import pytest

from tts_train_gpt_sovits.text import FrontEnd, TextRejected
from tts_train_gpt_sovits.text.japanese import normalise

pytest.importorskip("pyopenjtalk")


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2Pro")


# Accents are those of the Tokyo standard: はし bridge 2, end 0, chopsticks 1; こんにちは 0.
@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("こんにちは。", "k o [ N n i ch i w a ."),
        ("橋の", "h a [ sh i ] n o"),
        ("端で", "h a [ sh i d e"),
        ("箸を", "h a ] sh i o"),
        ("橋の端で箸を使う。", "h a [ sh i ] n o UNK h a [ sh i d e UNK h a ] sh i o UNK ts u [ k a u ."),
        ("学校に行きますか？", "g a [ cl k o o n i UNK i [ k i m a ] s u k a ?"),
        ("雨、飴。", "a ] m e , a [ m e ."),
        ("東京　大阪", "t o [ o ky o o o [ o s a k a"),
    ],
)
def test_pitch_marks_follow_the_accent(front_end, text, phones):
    assert " ".join(front_end.speak(text, "JP").phones) == phones


def test_v1_has_no_pitch_marks_and_keeps_devoiced_vowels():
    assert " ".join(FrontEnd("v1").speak("箸です。", "ja").phones) == "h a sh i d e s U ."


@pytest.mark.parametrize(
    ("text", "norm_text"),
    [
        ("1,234円", "1234円"),
        ("3.14", "3点一四"),
        ("50％", "50パーセント"),
        ("¥500", "500円"),
        ("10:30に", "10時30分に"),
        ("10:00に", "10時に"),
        ("2024-01-05", "2024年01月05日"),
        ("「はい」（笑）", "はい笑"),
        ("えっ！？", "えっ!"),
        ("まあ…～", "まあ…"),
    ],
)
def test_normalised_text(front_end, text, norm_text):
    assert front_end.speak(text, "ja").norm_text == norm_text.replace("％", "パーセント")


def test_numbers_are_read_with_their_counters(front_end):
    for text, sounds in (("1,000円", "s e N e N"), ("3本", "s a N b o N"), ("20日", "h a ts u k a")):
        assert [phone for phone in front_end.speak(text, "ja").phones if phone not in {"[", "]"}] == sounds.split()


def test_the_row_decides_that_han_is_japanese(front_end):
    spoken = front_end.speak("日本", "ja-JP")
    assert [part.language for part in spoken.parts] == ["ja"]
    assert spoken.phones[:2] == ("n", "i")


def test_english_inside_a_japanese_row(front_end):
    spoken = front_end.speak("Pythonの本", "ja")
    assert [part.language for part in spoken.parts] == ["en", "ja"]
    assert spoken.phones[:5] == ("P", "AY1", "TH", "AA0", "N")


def test_marks_alone_are_refused(front_end):
    with pytest.raises(TextRejected, match="empty_text"):
        front_end.speak("「」……", "ja")


def test_normalising_leaves_the_middle_dot_to_open_jtalk():
    assert normalise("ウィキ・ペディア") == "ウィキ・ペディア"
