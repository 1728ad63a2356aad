"""Rewards: a pure function of figures, each standardised per text."""

from __future__ import annotations

import numpy as np
import pytest

from tts_train.contract.metric import Figure
from tts_train.errors import ConfigError
from tts_train.sampling.rewards import (
    LEAST_SHARE,
    MISSED,
    Term,
    Wish,
    choose_terms,
    default_wishes,
    judge,
    read_reward,
)

FIGURES = {
    name: Figure(name=name, unit="", better=better, summary=name)
    for name, better in {
        "words_found": "higher",
        "cer": "lower",
        "duration_ratio": "one",
        "pace_ratio": "one",
        "stop": "higher",
        "leading_silence": "neither",
    }.items()
}


def term(name, weight=1.0, floor=None):
    return Term(figure=FIGURES[name], weight=weight, floor=floor)


def judged(ids, figures, *terms, sounding=None, drawn=None):
    there = [True] * len(ids)
    return judge(ids, figures, terms, sounding=sounding or there, drawn=drawn or there)


def test_words_are_read():
    assert read_reward(" words:1, speaker:0.3:0.7 ,stop:2:-1") == [
        Wish(name="words", weight=1.0),
        Wish(name="speaker", weight=0.3, floor=0.7),
        Wish(name="stop", weight=2.0, floor=-1.0),
    ]


@pytest.mark.parametrize(
    "text", ["words", "words:", "words:x", "words:0", "words:-1", ":1", "a:1:2:3", "a:nan", "a:1:inf"]
)
def test_what_is_no_reward_is_told_with_an_example(text):
    with pytest.raises(ConfigError, match=r"NAME:WEIGHT:FLOOR .* For example: --reward 'words:1"):
        read_reward(text)


def test_words_that_cannot_count_are_told():
    for text, why in (("", "--reward is empty"), ("stop:1,stop:2", "names stop twice")):
        with pytest.raises(ConfigError, match=why):
            read_reward(text)
    for name, why in (
        ("loveliness", r"'loveliness' is not measured. Figures that are: words_found \(higher\).*short words: words"),
        ("mos", r"not measured here:\n  dnsmos: pip install x"),
        ("leading_silence", "better neither high nor low"),
    ):
        with pytest.raises(ConfigError, match=why):
            choose_terms([Wish(name=name, weight=1)], FIGURES, missing={"dnsmos": "pip install x"})
    both = [Wish(name="words", weight=1), Wish(name="cer", weight=1)]
    with pytest.raises(ConfigError, match="both mean the figure cer"):
        choose_terms(both, FIGURES, missing={})


def test_a_short_word_means_the_first_figure_that_has_values():
    wishes = [Wish(name="words", weight=1), Wish(name="duration", weight=1)]

    def meant(empty):
        return [each.figure.name for each in choose_terms(wishes, FIGURES, missing={}, empty=empty)]

    assert meant([]) == ["cer", "duration_ratio"]
    assert meant(["cer", "duration_ratio"]) == ["words_found", "pace_ratio"]
    assert meant(["cer", "words_found", "duration_ratio", "pace_ratio"]) == ["cer", "duration_ratio"]
    wishes, absent = default_wishes(FIGURES)
    assert [wish.name for wish in wishes] == ["words", "duration", "stop"]
    assert absent == ["speaker", "mos", "repetition", "silence"]


def test_figures_are_standardised_per_text_and_weighted():
    ids = ["a", "a", "a", "b", "b", "b"]
    words = [100.0, 80.0, 90.0, 20.0, 40.0, 60.0]
    errors = [0.0, 10.0, 5.0, 90.0, 50.0, 40.0]
    found = judged(ids, {"words_found": words, "cer": errors}, term("words_found", 3), term("cer", 1))
    expected = []
    for rows in (slice(0, 3), slice(3, 6)):
        (one, other) = (np.asarray(values[rows]) for values in (words, errors))
        expected += ((3 * (one - one.mean()) / one.std() - (other - other.mean()) / other.std()) / 4).tolist()
    assert found.rewards == pytest.approx(expected)


def test_distance_from_one_counts_on_both_sides():
    found = judged(["a"] * 3, {"duration_ratio": [1.0, 0.5, 1.5]}, term("duration_ratio"))
    assert found.rewards[1] == pytest.approx(found.rewards[2])
    assert found.rewards[0] > found.rewards[1]


def test_takes_that_hardly_differ_are_not_told_apart_by_noise():
    ids, values = ["a", "a", "b", "b"], [50.0, 50.001, 0.0, 100.0]
    found = judged(ids, {"words_found": values}, term("words_found"))
    spread = LEAST_SHARE * np.std(values)
    assert found.rewards[:2] == pytest.approx([-0.0005 / spread, 0.0005 / spread])
    assert found.rewards[2:] == pytest.approx([-1.0, 1.0])
    alike = judged(ids, {"words_found": [0.1 + 0.2, 0.3, 0.3, 0.3]}, term("words_found"))
    assert alike.rewards == [0.0] * 4, "rounding is no difference"


def test_what_a_metric_cannot_judge_is_left_out_and_counted():
    figures = {"words_found": [None, 100.0, 0.0], "stop": [100.0, 100.0, 0.0]}
    found = judged(["a"] * 3, figures, term("words_found", 3), term("stop", 1))
    assert found.rewards[0] == pytest.approx((100 - np.mean([100, 100, 0])) / np.std([100, 100, 0]))
    assert found.left_out == {"words_found": 1}
    nothing = judged(["a"] * 2, {"words_found": [None, None]}, term("words_found"))
    assert nothing.rewards == [None, None]


def test_a_missed_floor_is_named_and_lowers_the_reward():
    figures = {"words_found": [100.0, 50.0], "cer": [3.0, 30.0], "duration_ratio": [1.1, 0.7]}
    floors = [term("words_found", 1, 60), term("cer", 1, 20), term("duration_ratio", 1, 0.2)]
    found, plain = judged(["a", "a"], figures, *floors), judged(["a", "a"], figures, *map(term, figures))
    assert found.missed == [[], ["words_found", "cer", "duration_ratio"]]
    assert found.rewards[0] == plain.rewards[0]
    assert found.rewards[1] == pytest.approx(plain.rewards[1] - 3 * MISSED)


def test_a_take_without_sound_is_the_worst_and_what_was_not_drawn_has_no_reward():
    figures = {"stop": [100.0, 0.0, None, None]}
    sounding, drawn = [True, True, False, False], [True, True, True, False]
    found = judged(["a"] * 4, figures, term("stop"), sounding=sounding, drawn=drawn)
    assert found.rewards == [1.0, -1.0, -1.0 - MISSED, None]
    alone = judged(["a"] * 2, {"stop": [None, None]}, term("stop"), sounding=[False, False], drawn=[True, True])
    assert alone.rewards == [-MISSED, -MISSED], "alike, so they give no pair"
