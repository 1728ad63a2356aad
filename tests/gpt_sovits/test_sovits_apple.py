"""Validation sums on a device without float64, as Apple's GPUs are; it is simulated, as far as a CPU can."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from tests.apple import APPLE, OnApple
from tts_train_gpt_sovits.sovits.sums import Sums


def test_the_simulated_device_refuses_float64():
    total = torch.ones(()).as_subclass(OnApple)
    assert total.device.type == "mps"
    with pytest.raises(TypeError, match="float64"):
        total.double()


def test_sums_are_made_in_what_the_device_has(monkeypatch):
    # Moving there is what a CPU build cannot do: a tensor of the CPU becomes one that says that it is there.
    move = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        if APPLE not in args:
            return move(tensor, *args, **kwargs)
        assert tensor.dtype != torch.float64, "such a tensor cannot be moved there"
        return tensor.as_subclass(OnApple)

    monkeypatch.setattr(torch.Tensor, "to", to)
    sums = Sums(["loss/zh"])
    for number in range(1, 2001):
        sums.add("loss", torch.tensor(float(number)).as_subclass(OnApple), 2)
    sums.add("loss/zh", torch.tensor(3.0).as_subclass(OnApple), 1)
    means = sums.means(SimpleNamespace(strategy=SingleDeviceStrategy(device=APPLE)))
    assert {name: float(mean) for name, mean in means.items()} == {"loss": 500.25, "loss/zh": 3.0}
