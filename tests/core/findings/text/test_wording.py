"""Texts twice, of another language, and too long or short for their sound."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.core.findings.text.rows import Said, measured, sample_rows, sound_of
from tts_train.findings.measure import Judge, Measured
from tts_train.findings.text.alike import most_alike
from tts_train.findings.text.wording import DuplicateTextJudge, OtherLanguageJudge, SpeakingRateJudge, TextLanguage


def row(number: int, text: str, language: str | None = "en", **figures: Any) -> Measured:
    return Measured(origin=f"x:{number}", text=text, speaker=None, language=language, seconds=2.0, figures=figures)


def told(judge: Judge, rows: list[Measured]) -> dict[str, str]:
    limits = {kind.name: kind.threshold for kind in judge.kinds}
    return {each.origin: each.detail for each in judge.judge(rows, limits)}


def test_the_later_of_two_alike_texts_is_told():
    rows = [
        row(1, "The train to the coast leaves at noon, not at one."),
        row(2, "Nothing here is like that at all."),
        row(3, "the train to the coast leaves at noon - not at one"),
        row(4, "The train to the coasts leaves at noon, not at one!"),
        row(5, "The plane to the coast leaves at noon, not at one."),
    ]
    assert told(DuplicateTextJudge(), rows) == {"x:3": "that of x:1"}
    shares = most_alike([each.text for each in rows])
    assert shares[3][0] == 0
    assert 0.75 < shares[3][1] < 0.9


def test_alike_texts_are_found_among_thousands():
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(500)]
    texts = [" ".join(rng.choices(words, k=14)) for _ in range(2000)]
    # One letter of some ninety.
    changed = {place: f"{texts[place][:40]}z{texts[place][41:]}" for place in range(0, 1000, 10)}
    found = most_alike([*texts, *changed.values()])
    assert [found[len(texts) + number][0] for number in range(len(changed))] == list(changed)
    assert all(share < 0.5 for place, (_, share) in found.items() if place < len(texts))


def test_a_text_of_another_language_is_told_by_the_row_or_by_most_rows():
    english = [Said(sound_of(0), each.text) for each in sample_rows(4)]
    spanish = Said(sound_of(0), "Para escuchar este mensaje otra vez, marque el numero tres.")
    assert told(OtherLanguageJudge(), measured([*english, spanish], [TextLanguage()])) == {"x.list:5": "es, not en"}
    named = [Said(one.sound, one.text, "eng") for one in english]
    assert not told(OtherLanguageJudge(), measured(named, [TextLanguage()]))
    unnamed = [Said(one.sound, one.text, None) for one in (*english, spanish)]
    assert told(OtherLanguageJudge(), measured(unnamed, [TextLanguage()])) == {"x.list:5": "es, not en"}


@pytest.mark.parametrize(("seconds", "word"), [(1.0, "faster"), (9.0, "slower")])
def test_a_rate_far_from_the_others_is_told(seconds: float, word: str):
    rows = [row(n, "abcd " * n, talking=0.3 + 0.25 * n) for n in range(2, 40)]
    odd = row(99, "abcd " * 14, talking=seconds)
    assert told(SpeakingRateJudge(), [*rows, odd]) == {"x:99": f"{word}: 3.8 s is usual"}


def test_a_handful_of_rows_has_no_usual_rate():
    assert told(SpeakingRateJudge(), [row(1, "abcd", talking=9.0), row(2, "abcd abcd", talking=0.1)]) == {}
