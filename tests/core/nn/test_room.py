"""Batches that do not fit are halved, and what they held is let go of first."""

from __future__ import annotations

import logging
import weakref

import pytest
import torch

from tts_train.nn.room import free_bytes, in_batches


class Card:
    """Holds so many items at once, and runs out of memory above, keeping a tensor alive in the frame that fails."""

    def __init__(self, room: int) -> None:
        self.room, self.batches, self.left = room, [], []

    def work(self, items):
        assert not any(reference() is not None for reference in self.left), "the last try still holds memory"
        held = torch.zeros(10)
        self.left.append(weakref.ref(held))
        self.batches.append(len(items))
        if len(items) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [10 * item for item in items]


def test_everything_is_done_once_and_in_order(caplog):
    card = Card(3)
    with caplog.at_level(logging.WARNING):
        assert in_batches(card.work, range(11), 8, what="utterances") == [10 * item for item in range(11)]
    assert card.batches == [8, 4, 2, 2, 2, 2, 2, 1]
    assert "No memory for 8 utterances at once; going on with 4." in caplog.text


def test_what_fits_is_not_divided():
    card = Card(8)
    assert in_batches(card.work, range(11), 8, what="utterances") == [10 * item for item in range(11)]
    assert card.batches == [8, 3]
    assert in_batches(card.work, [], 8, what="utterances") == []


def test_no_room_for_a_single_one_is_told():
    card = Card(0)
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(card.work, range(4), 4, what="utterances")
    assert card.batches == [4, 2, 1]


def test_a_cpu_has_no_limit_of_its_own():
    assert free_bytes(torch.device("cpu")) is None
