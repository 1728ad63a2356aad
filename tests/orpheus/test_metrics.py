"""Figures from the head's by-products, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tests.orpheus.family import TokenMetrics
from tts_train.nn.linear_cross_entropy import HeadOutput
from tts_train_orpheus import layout


def audio(slot: int, code: int) -> int:
    return layout.AUDIO_BASE + slot * layout.CODEBOOK_SIZE + code


def head(rows: list[tuple[int, int, float]]) -> HeadOutput:
    targets, predictions, losses = (torch.tensor(column) for column in zip(*rows, strict=True))
    return HeadOutput(loss_sum=losses.sum(), targets=targets, predictions=predictions, losses=losses)


ROWS = [
    (17, 17, 1.0),
    (18, 99, 2.0),
    (layout.END_OF_SPEECH, audio(0, 3), 4.0),
    (audio(0, 5), audio(0, 5), 1.0),
    (audio(0, 5), layout.END_OF_SPEECH, 2.0),
    (audio(1, 7), audio(2, 7), 3.0),
    (audio(1, 7), audio(1, 9), 6.0),
    (audio(4, 7), audio(4, 7), 8.0),
    (audio(6, 4095), layout.END_OF_SPEECH, 10.0),
]


@pytest.mark.parametrize("split", [len(ROWS), 2])
def test_figures(split):
    metrics = TokenMetrics("cpu")
    for start in range(0, len(ROWS), split):
        metrics.update(head(ROWS[start : start + split]))
    figures = metrics.compute()
    assert figures["loss"] == pytest.approx(37 / 9)
    assert figures["loss/text"] == pytest.approx(1.5)
    assert figures["loss/control"] == pytest.approx(4.0)
    assert figures["loss/audio"] == pytest.approx(5.0)
    accuracies = {name: value for name, value in figures.items() if name.startswith("slot_accuracy/")}
    assert accuracies == {f"slot_accuracy/{slot}": share for slot, share in [(0, 0.5), (1, 0.0), (4, 1.0), (6, 0.0)]}
    # Slot 1 answered with slot 2, and slot 6 with the end of speech, which only slot 0 may give.
    assert figures["wrong_slot"] == pytest.approx(2 / 6)
    assert figures["code_use/0"] == pytest.approx(1 / 4096)
    assert figures["code_use/1"] == pytest.approx(2 / 4096)
    assert figures["code_perplexity/1"] == pytest.approx(math.exp(math.log(2)))
    assert "code_use/2" not in figures


def test_what_nothing_bears_on_is_left_out():
    metrics = TokenMetrics("cpu")
    assert metrics.compute() == {}
    metrics.update(head([ROWS[0]]))
    assert metrics.compute(codes=False) == {"loss/text": 1.0, "loss": 1.0}


def test_totals_of_two_processes_add_up():
    whole, parts = TokenMetrics("cpu"), [TokenMetrics("cpu"), TokenMetrics("cpu")]
    whole.update(head(ROWS))
    parts[0].update(head(ROWS[:4]))
    parts[1].update(head(ROWS[4:]))
    parts[0].load_totals(parts[0].totals() + parts[1].totals())
    assert parts[0].compute() == whole.compute()
