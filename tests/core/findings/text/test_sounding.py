"""Words become sounds by the rules of five languages."""

from __future__ import annotations

import pytest

from tts_train.corpus.language import base_language
from tts_train.findings.text.acoustics import SOUNDS
from tts_train.findings.text.sounding import KNOWN, spoken, words_in
from tts_train.findings.text.spelling import TABLES, spelt


@pytest.mark.parametrize(
    ("language", "word", "sounds"),
    [
        ("es", "guerra", "G EH/EY R AA/AH"),
        ("es", "gente", "HH EH/EY N T EH/EY"),
        ("es", "llamada", "Y/JH AA/AH M AA/AH D/DH AA/AH"),
        ("es", "hoy", "OW/AO IY"),
        ("es", "mañana", "M AA/AH N Y AA/AH N AA/AH"),
        ("it", "chiesa", "K Y/IY EH/EY S/Z AA/AH"),
        ("it", "ciao", "CH AA/AH OW/AO"),
        ("it", "gli", "L IY"),
        ("it", "scelta", "SH EH/EY L T AA/AH"),
        ("fr", "beaux", "B OW/AO"),
        ("fr", "quatre", "K AA/AE T R/HH"),
        ("fr", "maison", "M EH/EY Z OW/AO"),
        ("fr", "parlent", "P AA/AE R/HH L"),
        ("fr", "cinq", "S AE/EH K"),
        ("ru", "его", "Y EH/IY V AH/OW"),
        ("ru", "что", "SH T AO/AA/AH/OW"),
        ("ru", "город", "G AO/AA/AH/OW R/D AO/AA/AH/OW T"),
        ("ru", "боится", "B AO/AA/AH/OW IY/IH T S AH/AA"),
        ("en", "phlox", "F L AA/OW/AH K S"),
    ],
)
def test_rules_of_spelling(language: str, word: str, sounds: str):
    assert spelt(word, language) == tuple(sounds.split())


@pytest.mark.parametrize("language", sorted(TABLES))
def test_tables_name_sounds_of_the_model_only(language: str):
    named = {one for _, sounds in TABLES[language] for sound in sounds.split() for one in sound.split("/")}
    assert named <= set(SOUNDS)


@pytest.mark.parametrize(
    ("language", "letters"), [("ru", "абвгдеёжзийклмнопрстуфхцчшщыэюя"), ("en", "bcdfgjklmnpqrstvwxyz")]
)
def test_no_letter_is_without_a_sound(language: str, letters: str):
    # Twice, with a vowel between: some are silent at an edge.
    vowel = "а" if language == "ru" else "a"
    silent = [letter for letter in letters if spelt(f"{vowel}{letter}{vowel}", language) == spelt(vowel * 2, language)]
    assert not set(silent) - {"а"}


def test_numbers_are_read_up_to_ten_and_any_sounds_stand_for_longer_ones():
    assert spoken("Press 3.", "en")[1:] == [("3", ("TH", "R", "IY"))]
    assert spoken("28", "fr") == [("28", ("*",) * 8)]
    assert spoken("9" * 5000, "en")[0][1] == ("*",) * 20_000


def test_words_are_taken_without_tags_and_signs():
    assert words_in("<laugh> Don’t… ÊTRE, l'eau!") == ["don't", "être", "l'eau"]
    assert [base_language(name) for name in ("en-GB", "EN_us", "eng", "Spanish")] == ["en", "en", "en", "es"]
    assert base_language(None) is None
    assert {"en", "es", "fr", "it", "ru"} == KNOWN
