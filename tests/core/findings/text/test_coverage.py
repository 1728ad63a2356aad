"""What texts have and lack of their language, and what is read in two ways."""

from __future__ import annotations

from tts_train.findings.measure import Measured
from tts_train.findings.text.coverage import in_words, text_coverage


def rows(*texts: str, language: str | None = "en") -> list[Measured]:
    return [
        Measured(origin=f"x:{place}", text=text, speaker=None, language=language, seconds=1.0)
        for place, text in enumerate(texts)
    ]


def test_letters_and_sounds_that_are_missing_or_rare_are_named():
    found = text_coverage(rows(*["The quick brown fox jumps over the lazy dog."] * 12))["languages"]["en"]
    assert found["letters_missing"] == []
    assert {"CH", "SH", "OY", "ZH"} <= set(found["sounds_missing"])
    assert found["sounds_rare"] == []
    once = text_coverage(rows("The fox."))["languages"]["en"]
    assert set(once["sounds_rare"]) >= {"F", "K", "S"}
    assert once["sounds"] == 39
    # Spanish has no sound of its own for v.
    spanish = text_coverage(rows(*["Viva el vino."] * 10, language="es"))["languages"]["es"]
    assert not {"B", "V"} & {*spanish["sounds_missing"], *spanish["sounds_rare"]}
    assert text_coverage(rows("Жук", language="ru"))["languages"]["ru"]["letters_missing"][:3] == ["а", "б", "в"]


def test_odd_writings_are_counted_once_each_by_the_rows_that_have_them():
    found = text_coverage(
        rows("Dr. Who paid $5 on 12/05/2024.", "Call 0800 123 NOW", "It is 7 <laugh> & <laugh> more", "Plain.")
    )
    assert {name: (each["rows"], each["examples"]) for name, each in found["odd"].items()} == {
        "abbreviations": (1, ["Dr."]),
        "amounts": (1, ["$5"]),
        "dates_and_times": (1, ["12/05/2024"]),
        "long_numbers": (1, ["0800", "123"]),
        "digits": (1, ["7"]),
        "capitals": (1, ["NOW"]),
        "symbols": (1, ["&"]),
    }
    assert found["tags"] == {"<laugh>": 2}
    # Scripts without capitals, and small letters beyond those of English and Russian.
    assert not text_coverage(rows("你好", "και", "її"))["odd"]
    told = "\n".join(in_words(found))
    assert "Texts: amounts in 1 rows ('$5')" in told
    assert "tags <laugh> (2)" in told


def test_lengths_add_up_whatever_the_language():
    found = text_coverage(rows("こんにちは", "", "one two three four", language="ja"))
    assert found["words_a_row"] == {"0-2": 2, "3-5": 1, "6-9": 0, "10-14": 0, "15-19": 0, "20-29": 0, "30-": 0}
    assert found["languages"] == {}
    assert found["words"] == found["different_words"] == 5
