"""Parameters stepped one by one: the same results inside backward, from host memory and in pieces; and refusals."""

from __future__ import annotations

import copy
import itertools

import bitsandbytes
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from tts_train.errors import ConfigError
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.optim.build import build_optimizer, parameter_groups
from tts_train.optim.schedule import build_schedule
from tts_train.optim.streamed import optimizer as streamed_module
from tts_train.optim.streamed.optimizer import StreamedOptimizer
from tts_train.optim.streamed.rules import parameter_key, round_stochastically, step_key

NAMES = ["adamw", "adamw8bit", "lion8bit"]
IDS = torch.arange(50)
KEY = step_key(parameter_key(0, 3), 7)


class Net(nn.Module):
    """Tied, with a matrix whose size is no multiple of a block, and parameters too small for 8 bits."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 99)
        self.norm = nn.LayerNorm(99)
        self.inner = nn.Linear(99, 99)
        self.head = nn.Linear(99, 50, bias=False)
        self.head.weight = self.table.weight
        self.to(dtype)

    def forward(self, ids):
        return self.head(torch.tanh(self.inner(self.norm(self.table(ids)))))

    def loss(self):
        return nn.functional.cross_entropy(self(IDS).float(), IDS.roll(1))


def train(options, steps=6, *, dtype=torch.float32, net=None, optimizer=None):
    net = net or Net(dtype)
    optimizer = optimizer or build_optimizer(net, options)
    for _ in range(steps):
        optimizer.zero_grad()
        net.loss().backward()
        optimizer.step()
    return net, optimizer


def assert_same_bits(one, other):
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def options(name="adamw", **changes):
    return OptimizerOptions(name=name, lr=1e-3, weight_decay=0.1, **changes)


def reference(net, name):
    """Return the library's own optimiser."""
    kind = {"adamw8bit": bitsandbytes.optim.AdamW8bit, "lion8bit": bitsandbytes.optim.Lion8bit}.get(name)
    groups = parameter_groups(net, options(name))
    return kind(groups, lr=1e-3, betas=(0.9, 0.999)) if kind else torch.optim.AdamW(groups, lr=1e-3, fused=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [{"in_backward": True}, {"offload": True}, {"in_backward": True, "offload": True}])
def test_when_and_where_a_step_is_taken_changes_no_bit(monkeypatch, name, how, dtype):
    monkeypatch.setattr(streamed_module, "PIECE", 1024)
    expected = Net(dtype)
    train(None, net=expected, optimizer=reference(expected, name))
    found, optimizer = train(options(name, **how), dtype=dtype)
    assert isinstance(optimizer, StreamedOptimizer)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rounding", ["stochastic", "master"])
def test_rounded_weights_do_not_depend_on_when_either(monkeypatch, name, rounding):
    monkeypatch.setattr(streamed_module, "PIECE", 1024)
    nets = [
        train(options(name, rounding=rounding, **how), dtype=torch.bfloat16)[0]
        for how in ({}, {"in_backward": True}, {"in_backward": True, "offload": True})
    ]
    for net in nets[1:]:
        assert_same_bits(net, nets[0])


def test_a_master_is_float32_training_seen_through_bfloat16():
    net, _ = train(options(rounding="master"), steps=1, dtype=torch.bfloat16)
    wide = Net(torch.bfloat16).float()
    for parameter, grad_of in zip(wide.parameters(), _gradients(Net(torch.bfloat16)), strict=True):
        parameter.grad = grad_of.float()
    build_optimizer(wide, options()).step()
    assert_same_bits(net, wide.to(torch.bfloat16))


def _gradients(net):
    net.loss().backward()
    return [parameter.grad for parameter in net.parameters()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "how",
    [
        {"in_backward": True},
        {"in_backward": True, "rounding": "stochastic"},
        {"in_backward": True, "rounding": "master", "offload": True},
    ],
)
def test_a_restored_optimizer_goes_on_bit_for_bit(name, how):
    chosen = options(name, **how)
    dtype = torch.bfloat16 if "rounding" in how else torch.float32
    through, _ = train(chosen, 7, dtype=dtype)
    half, optimizer = train(chosen, 3, dtype=dtype)
    saved = copy.deepcopy(optimizer.state_dict())
    again = copy.deepcopy(Net(dtype))
    again.load_state_dict(half.state_dict())
    fresh = build_optimizer(again, chosen)
    fresh.load_state_dict(saved)
    resumed, _ = train(chosen, 4, net=again, optimizer=fresh)
    assert_same_bits(resumed, through)
    for place, state in fresh.state_dict()["state"].items():
        assert all(state[key].dtype == saved["state"][place][key].dtype for key in state)


def test_states_of_adamw_are_those_of_torch():
    """A run may turn in_backward on or off where it continues."""
    through, _ = train(options(), 6)
    half, optimizer = train(options(), 3)
    inside = build_optimizer(half, options(in_backward=True))
    inside.load_state_dict(optimizer.state_dict())
    assert_same_bits(train(options(), 3, net=half, optimizer=inside)[0], through)


def test_states_of_another_optimizer_are_refused():
    _, optimizer = train(options(in_backward=True), 1)
    other = build_optimizer(Net(), options("adamw8bit", in_backward=True))
    with pytest.raises(ConfigError, match=r"exp_avg \(float32\).*absmax1.*--model\.init_from"):
        other.load_state_dict(optimizer.state_dict())


def test_schedules_move_the_rate_of_steps_in_backward():
    nets = []
    for inside in (False, True):
        net = Net()
        optimizer = build_optimizer(net, options(in_backward=inside))
        schedule = build_schedule(optimizer, ScheduleOptions("linear", warmup_steps=2), 6)
        for _ in range(6):
            train(None, 1, net=net, optimizer=optimizer)
            schedule.step()
        nets.append(net)
    assert_same_bits(*nets)


def test_gradients_never_exist_together():
    """No gradient is alive when the next one is finished, whatever the number of layers."""
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(12)))
    largest = max(p.numel() * p.element_size() for p in net.parameters())
    optimizer = build_optimizer(net, options(in_backward=True))
    seen = []

    def measure(_):
        seen.append(sum(p.grad.numel() * p.grad.element_size() for p in net.parameters() if p.grad is not None))

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(measure)
        parameter.register_hook(lambda _: measure(None))
    net(torch.randn(4, 64)).square().mean().backward()
    optimizer.step()
    assert len(seen) == 2 * 24
    assert max(seen) <= largest


def test_a_second_fit_of_a_module_steps_once():
    net = Net()
    first = build_optimizer(net, options(in_backward=True))
    found, _ = train(options(in_backward=True), 3, net=net)
    assert not first.state
    assert_same_bits(found, train(options(), 3)[0])


def test_what_is_not_finite_moves_nothing_after_it():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    optimizer = build_optimizer(net, options(in_backward=True))
    before = copy.deepcopy(net.state_dict())
    net[1].weight.register_hook(lambda grad: grad * float("inf"))
    net(torch.randn(4, 8)).square().mean().backward()
    assert optimizer.dropped
    optimizer.step()
    moved = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert all(name.startswith("2.") or name == "1.bias" for name in moved)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert optimizer.dropped == 0


def test_a_held_backward_moves_nothing():
    net, optimizer = train(options(in_backward=True), 2)
    before, states = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    optimizer.hold()
    train(None, 1, net=net, optimizer=optimizer)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for place, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, states[place][name]) for name, value in state.items())


def test_stochastic_rounding_is_right_on_average():
    values = torch.tensor([1.0 + 1 / 1024, -3.14159, 1e-30, 65504.3, 0.1])
    many = values.repeat(200_000, 1)
    rounded = round_stochastically(many.flatten(), KEY).float().view_as(many)
    steps = torch.stack([kind.max(0).values - kind.min(0).values for kind in (rounded,)])[0]
    # Two neighbours each, and a mean within five standard errors of a fair coin that wide.
    assert all(len(rounded[:, i].unique()) == 2 for i in range(len(values)))
    error = (rounded.double().mean(0) - values.double()).abs()
    assert (error < 5 * 0.5 * steps / 200_000**0.5).all()
    assert (error < (values.bfloat16().double() - values.double()).abs()).all()


def test_stochastic_rounding_leaves_what_fits_alone():
    exact = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), -float("inf"), 2.0**-126])
    assert torch.equal(round_stochastically(exact, KEY), exact.bfloat16())
    full_mantissa = torch.tensor([0x7FFFFFFF, -1, 0x7FC00000], dtype=torch.int32).view(torch.float32)
    assert round_stochastically(full_mantissa, KEY).isnan().all()


def test_small_steps_survive_only_with_care():
    """Changes far below half a unit in the last place: lost by rounding to nearest, kept on average by the others."""

    def moved(rounding):
        net = nn.Linear(256, 64, bias=False, dtype=torch.bfloat16)
        nn.init.ones_(net.weight)
        optimizer = build_optimizer(net, OptimizerOptions(lr=1e-4, rounding=rounding))
        for _ in range(100):
            net.weight.grad = torch.ones_like(net.weight)
            optimizer.step()
        return 1 - net.weight.float().mean().item()

    assert moved("nearest") == 0
    assert moved("stochastic") == pytest.approx(0.01, rel=0.02)
    assert moved("master") == pytest.approx(0.01, rel=0.2)  # rounded to nearest once, at the end


@pytest.mark.parametrize(
    ("name", "how"), list(itertools.product(["adafactor", "paged_adamw8bit"], ["in_backward", "offload"]))
)
def test_optimizers_that_cannot_are_refused(name, how):
    with pytest.raises(ConfigError, match="adamw8bit with offload true"):
        OptimizerOptions(name=name, **{how: True})


def test_clip_value_is_of_steps_in_backward():
    with pytest.raises(ConfigError, match=r"clip_value.*in_backward true"):
        OptimizerOptions(clip_value=1.0)


def test_rounding_is_refused_for_float32_weights():
    with pytest.raises(ConfigError, match=r"rounding stochastic.*float32.*bf16-true"):
        build_optimizer(Net(), options(rounding="stochastic"))


class Module(LightningModule):
    def __init__(self, chosen, losses=()):
        super().__init__()
        self.net, self.chosen, self.factors, self.seen = Net(), chosen, dict(losses), []

    def training_step(self, batch, batch_idx):
        loss = self.net.loss()
        self.seen.append(loss.item())
        return loss * self.factors.get(batch_idx, 1.0)

    def configure_optimizers(self):
        optimizer = build_optimizer(self, self.chosen)
        schedule = build_schedule(optimizer, ScheduleOptions(), self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self):
        return DataLoader(range(16), batch_size=1)


def fit(tmp_path, module, *, steps=6, path=None, **settings):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )
    trainer.fit(module, ckpt_path=path, weights_only=True)
    return trainer


def test_lightning_steps_in_backward_as_outside_and_continues(tmp_path):
    plain, inside = Module(options()), Module(options(in_backward=True))
    for module in (plain, inside):
        fit(tmp_path, module)
    assert inside.seen == plain.seen
    assert_same_bits(inside, plain)
    half = Module(options(in_backward=True))
    # The schedule must see the same end: the run is cut, not shortened.
    trainer = fit(tmp_path, half, limit_train_batches=3, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["optimizer_states"][0]
    assert {float(state["step"]) for state in saved["state"].values()} == {3.0}


def test_values_are_clipped_in_backward(tmp_path):
    plain, inside, unclipped = Module(options()), Module(options(in_backward=True, clip_value=1e-5)), Module(options())
    fit(tmp_path, plain, gradient_clip_val=1e-5, gradient_clip_algorithm="value")
    fit(tmp_path, inside)
    fit(tmp_path, unclipped)
    assert_same_bits(inside, plain)
    assert unclipped.seen != plain.seen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches must be 1.*--data\.max_tokens"),
        ({"gradient_clip_val": 1.0}, r"--model\.optimizer\.clip_value"),
    ],
)
def test_what_needs_all_gradients_is_refused_by_name(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, Module(options(in_backward=True)), **settings)
