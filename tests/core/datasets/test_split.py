"""The split into training and validation: by id, for each speaker, and stable when a set grows."""

from __future__ import annotations

import pytest

from tts_train.datasets.split import place, split
from tts_train.errors import ConfigError


def names(count, prefix="u"):
    return [f"{prefix}{number:05d}" for number in range(count)]


def test_sides_are_disjoint_and_complete_and_near_the_share():
    train, held = split(names(10_000), 0.05)
    assert sorted(train + held) == list(range(10_000))
    assert 430 < len(held) < 570


def test_rows_added_later_move_no_other():
    ids = names(3000)
    before = {ids[row] for row in split(ids, 0.05)[1]}
    more = names(500, prefix="new") + ids
    after = {more[row] for row in split(more, 0.05)[1]}
    assert before == {name for name in after if not name.startswith("new")}


def test_every_speaker_with_enough_rows_is_heard_and_none_only_in_validation():
    ids = names(400)
    speakers = [f"s{row % 20}" for row in range(400)]
    train, held = split(ids, 0.05, speakers=speakers)
    assert {speakers[row] for row in held} == set(speakers)
    single = [f"only{row}" for row in range(400)]
    assert len(split(ids, 0.5, speakers=single)[0]) >= 399, "a speaker's only row is for training"
    assert {speakers[row] for row in train} == set(speakers)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_small_sets_keep_one_row_for_validation(count):
    train, held = split(names(count), 0.01)
    assert len(held) == 1
    assert len(train) == count - 1


def test_one_row_and_share_zero_keep_nothing():
    assert split(["a"], 0.5) == ([0], [])
    assert split(names(100), 0.0) == (list(range(100)), [])
    assert split([], 0.1) == ([], [])


def test_equal_ids_stay_together_and_seeds_differ():
    ids = names(200) * 2
    _, held = split(ids, 0.1)
    assert {row % 200 for row in held if row < 200} == {row % 200 for row in held if row >= 200}
    assert split(ids, 0.1, seed=1)[1] != held


def test_places_are_the_same_on_every_machine():
    assert place("utterance-1") == 0.9035818007664248
    assert place("utterance-1", seed=1) != place("utterance-1")


def test_a_share_outside_of_its_range_is_refused():
    with pytest.raises(ConfigError, match=r"--data.val_share .* not 1.0"):
        split(names(3), 1.0)
