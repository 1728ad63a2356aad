"""Chinese: upstream's initials and finals, tone sandhi, erhua, numbers and marks."""

from __future__ import annotations

import pytest

from tts_train_gpt_sovits.text import FrontEnd, TextRejected
from tts_train_gpt_sovits.text.chinese.normal import spoken_numbers
from tts_train_gpt_sovits.text.chinese.reader import syllable_phones

for library in ("pypinyin", "jieba", "cn2an", "opencc"):
    pytest.importorskip(library)


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2")


def phones_of(front_end, text):
    spoken = front_end.speak(text, "ZH")
    for part in spoken.parts:
        if part.word2ph is not None:
            assert len(part.word2ph) == len(part.norm_text)
            assert sum(part.word2ph) == len(part.phones)
    return " ".join(spoken.phones)


@pytest.mark.parametrize(
    ("syllable", "phones"),
    [
        ("zhuang", "zh uang"), ("zhi", "zh ir"), ("ri", "r ir"), ("si", "s i0"), ("ji", "j i"), ("ju", "j v"),
        ("xue", "x ve"), ("quan", "q van"), ("lve", "l ve"), ("nv", "n v"), ("yan", "y En"), ("ye", "y E"),
        ("yu", "y v"), ("yuan", "y van"), ("you", "y ou"), ("wei", "w ei"), ("wu", "w u"), ("er", "EE er"),
        ("ai", "AA ai"), ("ou", "OO ou"), ("gui", "g ui"), ("liu", "l iu"), ("lun", "l un"),
    ],
)  # fmt: skip
def test_syllables_split_as_in_upstreams_table(syllable, phones):
    initial, final = phones.split()
    assert syllable_phones(syllable, "3") == (initial, f"{final}3")


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("你好。", "n i2 h ao3 ."),  # 33 becomes 23
        ("展览馆", "zh an2 l an2 g uan3"),  # 展览/馆: 223
        ("纸老虎", "zh ir3 l ao2 h u3"),  # 纸/老虎: 323
        ("不怕", "b u2 p a4"),  # 不 before a fourth tone
        ("不好", "b u4 h ao3"),
        ("看不懂", "k an4 b u5 d ong3"),
        ("一天", "y i4 t ian1"),  # 一 before tones 1 to 3
        ("一段", "y i2 d uan4"),  # 一 before a fourth tone
        ("看一看", "k an4 y i5 k an4"),
        ("第一天", "d i4 y i1 t ian1"),
        ("奶奶", "n ai3 n ai5"),
        ("东西", "d ong1 x i5"),
        ("他们来了", "t a1 m en5 l ai2 l e5"),
        ("嗯", "EE en1"),
    ],
)
def test_tones_change_with_their_neighbours(front_end, text, phones):
    assert phones_of(front_end, text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("这儿", "zh e4 EE er4"),
        ("小孩儿", "x iao3 h ai2 EE er2"),
        ("女儿", "n v3 EE er2"),  # a syllable of its own
    ],
)
def test_a_final_er_takes_the_tone_before_it(front_end, text, phones):
    assert phones_of(front_end, text) == phones


def test_v1_reads_a_final_er_as_a_syllable():
    assert phones_of(FrontEnd("v1"), "这儿") == "zh e4 EE er2"


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("银行", "y in2 h ang2"),
        ("行走", "x ing2 z ou3"),
        ("长大", "zh ang3 d a4"),
        ("长城", "ch ang2 ch eng2"),
        ("慢慢地走", "m an4 m an4 d e5 z ou3"),
        ("音乐", "y in1 y ve4"),
        ("快乐", "k uai4 l e4"),
    ],
)
def test_polyphones_follow_their_word(front_end, text, phones):
    assert phones_of(front_end, text) == phones


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("2024年1月5日", "二零二四年一月五日"),
        ("2024-01-05", "二零二四年一月五日"),
        ("3:30", "三点半"),
        ("8:05-12:30", "八点零五分至十二点半"),
        ("5%", "百分之五"),
        ("-3℃", "零下三度"),
        ("¥100", "一百元"),
        ("$3.5万", "三点五万美元"),
        ("3/4", "四分之三"),
        ("2个", "两个"),
        ("12个", "十二个"),
        ("第2个", "第二个"),
        ("10-20人", "十到二十人"),
        ("3+2=5", "三加二等于五"),
        ("1,234", "一千二百三十四"),
        ("3.14", "三点一四"),
        ("13812345678", "幺三八幺二三四五六七八"),
        ("007", "零零七"),
        ("5kg", "五千克"),
        ("1.2.3", "一点二点三"),
    ],
)
def test_numbers_are_spoken(text, spoken):
    assert spoken_numbers(text) == spoken


@pytest.mark.parametrize(
    ("text", "norm_text"),
    [
        ("你好！？真的、对：好……", "你好!真的,对,好…"),
        ("《書》（開）", "书开"),  # traditional characters become simplified
        ("他用￥付", "他用人民币付"),
        ("涨了5%", "涨了百分之五"),
    ],
)
def test_marks_and_characters_of_the_normalised_text(front_end, text, norm_text):
    assert front_end.speak(text, "zh").norm_text == norm_text


def test_a_caret_is_a_long_pause(front_end):
    spoken = front_end.speak("你^我", "zh")
    assert spoken.phones == ("n", "i3", "SP3", "w", "o3")
    assert spoken.norm_text == "你,我"
    assert spoken.word2ph == (2, 1, 2)


def test_english_words_inside_a_chinese_row_are_read_in_english(front_end):
    spoken = front_end.speak("我喜欢Python。", "zh")
    assert " ".join(spoken.phones) == "w o2 x i3 h uan5 P AY1 TH AA0 N ."
    assert [(part.language, part.norm_text) for part in spoken.parts] == [("zh", "我喜欢"), ("en", "Python.")]
    assert spoken.word2ph is None
    assert spoken.parts[0].word2ph == (2, 2, 2)


def test_a_character_without_a_reading_is_refused(front_end):
    with pytest.raises(TextRejected) as caught:
        front_end.speak("他叫\U00030000", "zh")
    assert caught.value.reason == "unreadable_text"
