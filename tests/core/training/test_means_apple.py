"""Validation sums on a device without float64, as Apple's GPUs are; it is simulated, as far as a CPU can."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from tests.apple import APPLE, OnApple
from tts_train.parallel.means import Means


def test_the_simulated_device_refuses_float64():
    total = torch.ones(()).as_subclass(OnApple)
    assert total.device.type == "mps"
    with pytest.raises(TypeError, match="float64"):
        total.double()


def test_sums_are_made_in_what_the_device_has(monkeypatch):
    zeros = torch.zeros

    def zeros_there(*size, dtype=None, device=None):
        assert device != APPLE or dtype != torch.float64, "such a tensor cannot be made there"
        return zeros(*size, dtype=dtype).as_subclass(OnApple)

    monkeypatch.setattr(torch, "zeros", zeros_there)
    means = Means(["loss", "loss/zh"], APPLE)
    for number in range(1, 2001):
        means.add("loss", torch.tensor(float(number)).as_subclass(OnApple), 2)
    means.add("loss/zh", torch.tensor(3.0).as_subclass(OnApple), 1)
    found = means.over(SingleDeviceStrategy(device=APPLE))
    assert {name: float(mean) for name, mean in found.items()} == {"loss": 500.25, "loss/zh": 3.0}
