"""The page about a set of takes: every figure that was measured, and every count."""

from __future__ import annotations

from tts_train.sampling.table import table_of


def test_figures_and_counts_are_told():
    figure = {"better": "one", "unit": "", "summary": "", "digits": 2, "n": 3, "mean": 1.234, "best": None}
    said = {
        "takes": 4, "texts": 2, "n": 2, "ended": 1, "cut_off": 2, "silent": 1, "not_drawn": 0, "pairs": 1,
        "faulty": 0, "examples": {}, "without_pair": {"fewer than two takes could be judged": 1},
        "left_out": {"duplicate": 3},
        "missed": {"words_found": 1},
        "left_out_of_rewards": {"pace_ratio": 1},
        "not_judged": {"speaker": {"there is no other recording of this speaker": 3}},
        "not_measured": {"wavlm": "give --weights.wavlm MODEL"},
        "settings": {"max_new_tokens": 70},
        "reward": {"pace_ratio": {"weight": 0.5, "floor": None}},
        "figures": {"pace_ratio": figure, "nothing": {**figure, "n": 0, "mean": None}},
    }  # fmt: skip
    lines = table_of(said).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[2:-1]] == ["all takes", "best of 2", "takes", "weight"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["pace_ratio → 1", "1.23", "–", "3", "0.5"]
    assert lines[4:] == [
        "- 4 takes of 2 texts: 1 ended by themselves, 2 were cut off, 1 gave no sound, 0 were not drawn.",
        "- Texts that give a pair: 1.",
        "- Most takes were cut off at --max_new_tokens 70: give more, or train the model longer.",
        "- Texts without a pair: 1, as fewer than two takes could be judged.",
        "- Rows that are not spoken: 3 duplicate.",
        "- Takes that miss the floor of words_found: 1.",
        "- Takes of which pace_ratio is left out of the reward: 1.",
        "- Takes that speaker does not judge: 3 (there is no other recording of this speaker).",
        "- Not measured: wavlm (give --weights.wavlm MODEL).",
    ]


def test_takes_that_are_not_as_they_should_be_are_told_with_one_of_each():
    counts = {"takes": 4, "texts": 2, "n": 2, "ended": 2, "cut_off": 0, "silent": 0, "not_drawn": 2, "pairs": 0}
    nothing = {key: {} for key in ("without_pair", "left_out", "missed", "left_out_of_rewards", "not_judged")}
    examples = {"not_drawn": "a: The text is too long.", "faulty": "b: 2 ids are no audio"}
    said = {**counts, **nothing, "not_measured": {}, "reward": {}, "figures": {}, "faulty": 2, "examples": examples}
    assert table_of(said).splitlines()[-3:] == [
        "- Takes with a fault, which are never the better one of a pair: 2.",
        "- One that is not drawn: a: The text is too long.",
        "- One that is with a fault: b: 2 ids are no audio",
    ]
