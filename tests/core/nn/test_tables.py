"""Kept tables can be trained with, whoever asked for them first."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tts_train.nn.devices import kept_table, planning_for


def squares():
    calls = []

    @kept_table
    def table(size: int) -> torch.Tensor:
        """Squares."""
        calls.append(size)
        return torch.arange(float(size)).square()

    return table, calls


def test_a_table_is_made_once():
    table, calls = squares()
    assert table(4) is table(4)
    assert calls == [4]
    assert table.__doc__ == "Squares."


def test_a_table_that_a_validation_made_can_be_saved_for_backward():
    table, _ = squares()
    with torch.inference_mode():
        table(3)
    weight = torch.ones(3, requires_grad=True)
    (weight * table(3)).sum().backward()
    assert weight.grad.tolist() == [0.0, 1.0, 4.0]


def test_a_plan_leaves_no_table_behind_and_takes_none():
    table, calls = squares()
    with planning_for("cuda"), FakeTensorMode():
        assert isinstance(table(3), FakeTensor)
        assert table(3) is table(3)
    assert table(3).tolist() == [0.0, 1.0, 4.0]
    with planning_for("cuda"), FakeTensorMode():
        assert isinstance(table(3), FakeTensor)
    assert calls == [3, 3, 3]
