"""The fused optimiser kernel in Triton's interpreter; ``test_optim_fused.py`` runs this file in a process of its own.

Sizes are small: the interpreter takes about 0.1 s for 1,024 elements.
"""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
from bitsandbytes import functional
from torch import nn

from tts_train.nn.kernels import fused as runs_fused
from tts_train.optim import OptimizerOptions
from tts_train.optim.build import build_optimizer
from tts_train.optim.kernels import dynamic, fused
from tts_train.optim.streamed import rules as rounding
from tts_train.optim.streamed.rules import AdamWRule, EightBitRule

assert runs_fused(torch.zeros(1)), "set TRITON_INTERPRET=1"

SIZE, START = 1300, 6
GROUP = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
MAPS = dynamic.tables(functional.create_dynamic_map(signed=True), functional.create_dynamic_map(signed=False))
WAYS = [
    (name, dtype, way)
    for name, dtype, way in itertools.product(
        ["adamw", "adamw8bit", "lion8bit"], [torch.bfloat16, torch.float32], ["nearest", "stochastic", "master"]
    )
    if dtype == torch.bfloat16 or way == "nearest"
]


def states_of(rule, size, dtype):
    return rule.new_state(size, 1 << 20, dtype, lambda count, kind: torch.zeros(count, dtype=kind))


def part_of(weight, grad, state, rule, master=None, *, place=0, key=(1, 2)):
    means = [state[name] for name, span in rule.spans.items() if span == 1 and name in state]
    scales = [state[name] for name, span in rule.spans.items() if span > 1 and name in state]
    return fused.Part(weight, grad, means, scales, master, START, place, key)


def flags(count=1, held=0.0):
    return torch.tensor(held), torch.zeros(count), torch.zeros(count)


@pytest.mark.parametrize(("name", "dtype", "way"), WAYS)
def test_a_step_is_that_of_the_libraries(name, dtype, way):
    """Each of two steps begins from the same numbers; states of 8 bits agree but for neighbours at a tie.

    Two in 100 codes of a mean are at a tie, since a bfloat16 gradient is a coarse number. bitsandbytes' code for CPUs
    looks values up at a resolution of about 1/32768 instead of finding the nearest, so that up to 4 in 100 of its codes
    of squares, nearly all next to 0, are not the nearest; those of the kernel are.
    """
    torch.manual_seed(1)
    rule = AdamWRule() if name == "adamw" else EightBitRule(name)
    size = SIZE
    kind = torch.float32 if way != "nearest" else dtype
    theirs, ours = states_of(rule, size, kind), states_of(rule, size, kind)
    weight, key = torch.randn(size).to(dtype), rounding.parameter_key(0, 0)
    exact, marks = weight.float(), flags()
    how = {"nearest": fused.NEAREST, "stochastic": fused.STOCHASTIC, "master": fused.MASTER}[way]
    for count in (1, 2):
        grad = torch.randn(size).to(dtype)
        mine, master = weight.clone(), exact.clone()
        for state_name, state in ours.items():
            state.copy_(theirs[state_name])
        stepped = {"nearest": weight, "stochastic": weight.float(), "master": exact}[way]
        rule.step(stepped, grad.clamp(-1, 1).to(stepped.dtype), theirs, count=count, group=GROUP)
        if way == "stochastic":
            weight.copy_(rounding.round_stochastically(stepped, rounding.step_key(key, count), start=START))
        elif way == "master":
            weight.copy_(exact)
        part = part_of(mine, grad, ours, rule, master if way == "master" else None, key=key)
        fused.step_parts([part], maps=MAPS, flags=marks, group=GROUP, lion=rule.lion, rounding=how, clip=1.0)
        assert marks[2].tolist() == [float(count)]
        marks[1].copy_(marks[2])
        within = 2**-7 if dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(mine, weight, rtol=within, atol=1e-7 if dtype == torch.float32 else 0.0)
        if dtype == torch.bfloat16:
            assert (mine != weight).float().mean() < 0.002
        if way == "master":
            torch.testing.assert_close(master, exact, rtol=1e-6, atol=1e-7)
        for state_name, state in ours.items():
            if state.dtype == torch.uint8:
                found = functional.dequantize_blockwise(state, *_scaled(ours, state_name))
                wanted = functional.dequantize_blockwise(theirs[state_name], *_scaled(theirs, state_name))
                share = (state != theirs[state_name]).float().mean()
                assert share < 0.05, share
                # A code apart is 1/64 of the scale at most; the coarse look-up errs by far less near 0.
                assert (found - wanted).abs().max() <= wanted.abs().max() / 64
            else:
                near = 2**-7 if state.dtype == torch.bfloat16 else 1e-5
                torch.testing.assert_close(state, theirs[state_name], rtol=near, atol=1e-7)


def _scaled(states, name):
    code = MAPS[:256] if name == "state1" else MAPS[256:512]
    return (functional.QuantState(states[f"absmax{name[-1]}"], code=code, blocksize=256, dtype=torch.float32),)


def test_codes_are_the_nearest():
    """Against all distances; only values within 1e-6 of a tie may take the other neighbour."""
    rule = EightBitRule("adamw8bit")
    torch.manual_seed(0)
    grad = torch.randn(SIZE) * 10.0 ** torch.randint(-6, 1, (SIZE,))
    state = states_of(rule, SIZE, torch.float32)
    part = part_of(torch.zeros(SIZE), grad, state, rule)
    fused.step_parts([part], maps=MAPS, flags=flags(), group=GROUP, lion=False, rounding=0, clip=None)
    for name, code, value in (("1", MAPS[:256], 0.1 * grad), ("2", MAPS[256:512], 0.01 * grad.square())):
        padded = nn.functional.pad(value, (0, -SIZE % 256)).view(-1, 256).double()
        torch.testing.assert_close(state[f"absmax{name}"].double(), padded.abs().amax(1), rtol=1e-6, atol=0)
        scaled = (padded / padded.abs().amax(1, keepdim=True)).view(-1)[:SIZE]
        distances = (scaled[:, None] - code.double()).abs()
        nearest, found = distances.min(1).values, distances.gather(1, state[f"state{name}"].long()[:, None])[:, 0]
        assert (found - nearest).max() < 1e-6


def test_steps_with_8_bits_are_float64s(monkeypatch):
    """The reference that a card is held to; from 4,096 elements on states have 8 bits."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    from gpu_blocks.kernels import off_exact

    assert off_exact("cpu", 8192) < 1e-3


def test_noise_is_the_references():
    key = rounding.parameter_key(0, 5)
    weight = torch.full((2600,), 1.0, dtype=torch.bfloat16)
    grad = torch.full((2600,), 1.0, dtype=torch.bfloat16)
    rule, marks = AdamWRule(), (torch.tensor(0.0), torch.tensor([41.0]), torch.tensor([41.0]))
    state = states_of(rule, 2600, torch.float32)
    group = {**GROUP, "lr": 1e-4, "weight_decay": 0.0}
    exact = torch.ones(2600)
    rule.step(exact, grad.float(), copy.deepcopy(state), count=42, group=group)
    part = fused.Part(weight, grad, list(state.values()), [], None, 2**33 + 3, 0, key)
    fused.step_parts([part], maps=MAPS, flags=marks, group=group, lion=False, rounding=1, clip=None)
    wanted = rounding.round_stochastically(exact, rounding.step_key(key, 42), start=2**33 + 3)
    assert len(wanted.unique()) == 2
    assert torch.equal(weight, wanted)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "lion8bit"])
@pytest.mark.parametrize("way", ["nearest", "stochastic", "master"])
def test_many_in_one_launch_are_stepped_as_one_by_one(name, way):
    torch.manual_seed(2)
    rule = AdamWRule() if name == "adamw" else EightBitRule(name)
    sizes = [1024, 1, 300, 1025]
    results = []
    for together in (True, False):
        torch.manual_seed(3)
        parts, kept = [], []
        for place, size in enumerate(sizes):
            weight, grad = torch.randn(size).bfloat16(), torch.randn(size).bfloat16()
            state = states_of(rule, size, torch.float32)
            master = weight.float() if way == "master" else None
            key = rounding.parameter_key(0, place)
            parts.append(part_of(weight, grad, state, rule, master, place=place, key=key))
            kept += [weight, *state.values(), *([] if master is None else [master])]
        how = {"nearest": fused.NEAREST, "stochastic": fused.STOCHASTIC, "master": fused.MASTER}[way]
        marks = flags(len(sizes))
        for some in [parts] if together else [[part] for part in parts]:
            fused.step_parts(some, maps=MAPS, flags=marks, group=GROUP, lion=rule.lion, rounding=how, clip=None)
        assert marks[2].tolist() == [1.0] * len(sizes)
        results.append(kept)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_a_held_step_changes_no_bit(count):
    torch.manual_seed(4)
    rule = EightBitRule("adamw8bit")
    kept, parts = [], []
    for place in range(count):
        state = states_of(rule, 300, torch.float32)
        weight = torch.randn(300).bfloat16()
        parts.append(part_of(weight, torch.full((300,), float("nan")), state, rule, place=place))
        kept += [weight, *state.values()]
    before, marks = copy.deepcopy(kept), flags(count, held=1.0)
    fused.step_parts(parts, maps=MAPS, flags=marks, group=GROUP, lion=False, rounding=1, clip=None)
    assert all(torch.equal(one, other) for one, other in zip(kept, before, strict=True))
    assert not marks[2].any()


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_marked(bad, dtype):
    values, held = torch.full((5000,), torch.finfo(dtype).max, dtype=dtype), torch.zeros(())
    fused.mark_nonfinite(values, held)
    assert held == 0
    values[4999] = bad
    fused.mark_nonfinite(values, held)
    assert held == 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(64, 65), nn.Tanh(), nn.Linear(65, 4))
        self.to(torch.bfloat16)

    def loss(self, step):
        inputs = torch.randn(8, 64, generator=torch.Generator().manual_seed(step)).bfloat16()
        return self.layers(inputs).float().square().mean()


def train(options, steps, net=None, optimizer=None, *, bad=(), first=0):
    net = net or Net()
    optimizer = optimizer or build_optimizer(net, options)
    for step in range(first, steps):
        optimizer.zero_grad()
        loss = net.loss(step)
        if step in bad and options.in_backward:
            optimizer.hold(torch.tensor(1.0))
        loss.backward()
        if step in bad and not options.in_backward:
            optimizer.found_inf = torch.tensor(1.0)
        optimizer.step()
    return net, optimizer


def assert_same_bits(one, other):
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_when_and_where_changes_no_bit_and_a_skipped_step_leaves_none(monkeypatch, name):
    from tts_train.optim.streamed import optimizer as streamed

    monkeypatch.setattr(streamed, "PIECE", 2048)
    ways = [{}, {"in_backward": True}, {"in_backward": True, "offload": True}]
    made = [train(OptimizerOptions(name, lr=1e-2, rounding="stochastic", **way), 3, bad=(1,)) for way in ways]
    for net, optimizer in made:
        assert optimizer.skips_on_device
        assert_same_bits(net, made[0][0])
        assert {float(state["step"]) for state in optimizer.state_dict()["state"].values()} == {2.0}


def test_a_gradient_that_is_not_finite_holds_what_comes_after_it():
    net = Net()
    before = copy.deepcopy(net.state_dict())
    optimizer = build_optimizer(net, OptimizerOptions("lion8bit", lr=1e-2, in_backward=True))
    net.layers[0].bias.register_hook(lambda grad: grad * float("inf"))
    net.loss(0).backward()
    assert optimizer.refused
    assert optimizer.dropped
    optimizer.step()
    assert not optimizer.refused
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {"layers.2.weight", "layers.2.bias"} <= moved <= {"layers.2.weight", "layers.2.bias", "layers.0.weight"}
    steps = [float(state["step"]) for state in optimizer.state_dict()["state"].values()]
    assert sorted(set(steps)) == [0.0, 1.0]


def test_a_restored_optimizer_goes_on_bit_for_bit():
    options = OptimizerOptions("adamw8bit", lr=1e-2, in_backward=True, rounding="stochastic")
    through, _ = train(options, 3)
    half, optimizer = train(options, 2)
    saved, again = copy.deepcopy(optimizer.state_dict()), Net()
    again.load_state_dict(half.state_dict())
    fresh = build_optimizer(again, options)
    fresh.load_state_dict(saved)
    resumed, _ = train(options, 3, again, fresh, first=2)
    assert_same_bits(resumed, through)
