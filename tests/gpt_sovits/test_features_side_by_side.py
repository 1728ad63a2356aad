"""Clips next to each other: the same results in order, without gradients, and torch's threads left as they were."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.filling import wave
from tts_train_gpt_sovits.features import HubertFeatures, SpeakerVectors
from tts_train_gpt_sovits.features.batching import side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_threads_are_divided_results_in_order_and_nothing_keeps_gradients():
    weight = torch.ones(3, requires_grad=True)

    def work(number):
        return number, torch.get_num_threads(), (number * weight).requires_grad

    assert side_by_side(work, range(5), CPU) == [(number, 1, False) for number in range(5)]
    assert side_by_side(work, [7], CPU) == [(7, 2, False)], "one clip alone has all threads"
    assert side_by_side(work, [], CPU) == []


@pytest.mark.usefixtures("two_threads")
def test_what_goes_wrong_is_said_and_leaves_the_threads_alone():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 / number, [2, 1, 0], CPU)


@pytest.mark.usefixtures("two_threads")
def test_features_are_those_of_clips_one_by_one():
    sounds = [torch.from_numpy(wave(int(32_000 * seconds), 32_000, str(seconds))).float() for seconds in (1, 3, 0.4, 2)]
    hubert, speaker = HubertFeatures.load("tiny"), SpeakerVectors.load("tiny")
    for one, other in zip(hubert.encode(sounds), [hubert.encode([each])[0] for each in sounds], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    words = [(20_000 * each).to(torch.int16) for each in sounds]
    for one, other in zip(speaker.encode(words), [speaker.encode([each])[0] for each in words], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
