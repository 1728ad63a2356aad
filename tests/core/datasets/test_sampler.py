"""Every rank gets its share of the plan, from any position."""

from __future__ import annotations

import logging

import pytest

from tts_train.datasets.sampler import ResumableBatchSampler
from tts_train.errors import DataError

BATCHES = [[[e * 100 + i] for i in range(7 if e != 1 else 9)] for e in range(3)]
BATCHES[2] = BATCHES[2][:5]


def sampler(rank=0, world=1, **kwargs):
    return ResumableBatchSampler(BATCHES.__getitem__, rank, world, **kwargs)


def test_ranks_divide_the_plan_without_overlap():
    shares = [list(sampler(rank, 3)) for rank in range(3)]
    assert shares == [[[0], [3]], [[1], [4]], [[2], [5]]]
    assert sampler(0, 3).tail(0) == 1


def test_position_is_asked_when_the_first_batch_is_wanted():
    where = {"now": (0, 0)}
    drawn = sampler(position=lambda: where["now"])
    iterator = iter(drawn)
    assert drawn.started_at is None
    where["now"] = (1, 4)
    assert list(iterator) == [[104], [105], [106]]
    assert drawn.started_at == (1, 4)
    assert len(drawn) == 7


def test_all_of_an_epoch_done_leaves_nothing():
    assert list(sampler(position=lambda: (0, 7))) == []


def test_epochs_have_one_length_and_the_difference_is_said(caplog):
    caplog.set_level(logging.INFO)
    drawn = sampler()
    for epoch, expected in ((1, [100, 101, 102, 103, 104, 105, 106]), (2, [200, 201, 202, 203, 204, 200, 201])):
        drawn.set_epoch(epoch)
        assert [batch[0] for batch in drawn] == expected
    assert "Epoch 1 leaves out 2 of its 9 batches" in caplog.text
    assert "Epoch 2 repeats 2 of its 5 batches" in caplog.text


def test_validation_repeats_rather_than_leaving_out():
    shares = [[batch[0] for batch in sampler(rank, 3, fill=True)] for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]


def test_too_few_batches_for_the_ranks():
    with pytest.raises(DataError, match="7 batches for 8 processes"):
        len(sampler(0, 8))
