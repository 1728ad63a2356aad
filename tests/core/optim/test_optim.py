"""Optimisers that train, their groups, and schedules as functions of the step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tts_train.errors import ConfigError
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.optim.build import build_optimizer, parameter_groups
from tts_train.optim.schedule import build_schedule, learning_rate_factor

NAMES = ["adamw", "adamw8bit", "paged_adamw8bit", "adafactor", "lion8bit"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(11, 96)
        self.norm = nn.LayerNorm(96)
        self.inner = nn.Linear(96, 96)
        self.head = nn.Linear(96, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.inner(self.norm(self.table(ids))))


def losses(name, steps=12):
    net, ids = Net(), torch.arange(11)
    optimizer = build_optimizer(net, OptimizerOptions(name=name, lr=1e-3 if name == "lion8bit" else 3e-3))
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(ids), ids.roll(1))
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


@pytest.mark.parametrize("name", NAMES)
def test_every_name_trains(name):
    history = losses(name)
    assert history[-1] < 0.8 * history[0]


def test_adamw_is_torch_adamw():
    nets = [Net(), Net()]
    options = OptimizerOptions(lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, decay="all")
    optimizers = [
        build_optimizer(nets[0], options),
        torch.optim.AdamW(nets[1].parameters(), lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, foreach=False),
    ]
    for _ in range(3):
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            net(torch.arange(11)).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_matrices_decay_and_tied_weights_count_once():
    net = Net()
    groups = parameter_groups(net, OptimizerOptions(weight_decay=0.1))
    assert [[id(p) for p in group["params"]] for group in groups] == [
        [id(net.inner.weight)],
        [id(net.table.weight), id(net.norm.weight), id(net.norm.bias), id(net.inner.bias)],
    ]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    everything = parameter_groups(net, OptimizerOptions(weight_decay=0.1, decay="all"))
    assert [len(group["params"]) for group in everything] == [5]


def test_frozen_parameters_are_left_out():
    net = Net().requires_grad_(False)
    with pytest.raises(ConfigError, match="Nothing is trainable"):
        build_optimizer(net, OptimizerOptions())
    net.inner.requires_grad_(True)
    assert sum(len(group["params"]) for group in build_optimizer(net, OptimizerOptions()).param_groups) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.0), ("lr", math.inf), ("betas", (0.9, 1.0)), ("eps", 0.0), ("weight_decay", -0.1), ("name", "sgd")],
)
def test_bad_option_names_its_flag(field, value):
    with pytest.raises(ConfigError, match=rf"--model\.optimizer\.{field}"):
        OptimizerOptions(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("warmup_steps", -1), ("warmup_share", 1.0), ("final_share", 2.0), ("name", "step")]
)
def test_bad_schedule_option_names_its_flag(field, value):
    with pytest.raises(ConfigError, match=rf"--model\.schedule\.{field}"):
        ScheduleOptions(**{field: value})


def test_two_warmups_are_refused():
    with pytest.raises(ConfigError, match="not both"):
        ScheduleOptions(warmup_steps=3, warmup_share=0.1)


def test_shapes():
    cosine = learning_rate_factor(ScheduleOptions("cosine", warmup_steps=4, final_share=0.1), 24)
    assert [cosine(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert cosine(14) == pytest.approx(0.55)
    assert cosine(24) == cosine(30) == pytest.approx(0.1)
    linear = learning_rate_factor(ScheduleOptions("linear", warmup_share=0.5), 20)
    assert [linear(9), linear(10), linear(15), linear(20)] == pytest.approx([10 / 11, 1.0, 0.5, 0.0])
    assert {learning_rate_factor(ScheduleOptions("constant"), math.inf)(step) for step in (0, 7, 10**6)} == {1.0}


@pytest.mark.parametrize("options", [ScheduleOptions(), ScheduleOptions("constant", warmup_share=0.1)])
def test_an_endless_run_needs_a_schedule_without_an_end(options):
    with pytest.raises(ConfigError, match=r"--trainer\.max_steps"):
        learning_rate_factor(options, math.inf)


def test_resumed_schedule_is_on_the_same_curve():
    def start():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
        return optimizer, build_schedule(optimizer, ScheduleOptions(warmup_steps=3), 20)

    optimizer, schedule = start()
    rates, states = [], []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        states.append((optimizer.state_dict(), dict(schedule.state_dict())))
        optimizer.step()
        schedule.step()
    again, resumed = start()
    again.load_state_dict(states[7][0])
    resumed.load_state_dict(states[7][1])
    for step in range(7, 20):
        assert again.param_groups[0]["lr"] == rates[step]
        again.step()
        resumed.step()
