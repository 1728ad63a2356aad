"""The fused optimiser kernel: in Triton's interpreter here, and on a GPU where there is one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tts_train.memory.step.shapes import Shapes
from tts_train.nn.devices import planning_for
from tts_train.optim import OptimizerOptions
from tts_train.optim.build import build_optimizer
from tts_train.optim.kernels import fused
from tts_train.optim.streamed import rules as rounding

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_in_the_interpreter():
    """Its settings are read when Triton is imported, so that it needs a process of its own."""
    pytest.importorskip("triton")
    settings = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/core/optim/interpreted.py"]
    done = subprocess.run(words, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.parametrize("capability", [75, 90])
def test_kernels_compile_for_cards(capability):
    """No card is needed for that; bfloat16 weights, all three optimisers, one parameter or many."""
    pytest.importorskip("triton")
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from tts_train.optim.kernels import triton_step

    numbers = dict.fromkeys(("lr", "beta1", "beta2", "eps", "decay", "clip", "log1", "log2"), "fp32")
    floats = dict.fromkeys(("scale1", "scale2", "master", "maps", "held", "counts", "upcoming"), "*fp32")
    whole = dict.fromkeys(("size", "start", "place", "key_a", "key_b"), "i32")
    how = {"LION": False, "EIGHT": True, "ROUNDING": 1, "CLIPS": True, "EVEN": False}
    one = {"weight": "*bf16", "grad": "*bf16", **floats, **whole, **numbers}
    cases = [
        (triton_step.step_one, {**one, "state1": "*u8", "state2": "*u8"}, how),
        (triton_step.step_one, {**one, "state1": "*u8", "state2": "*u8"}, {**how, "LION": True}),
        (triton_step.step_one, {**one, "state1": "*fp32", "state2": "*fp32"}, {**how, "EIGHT": False, "ROUNDING": 2}),
        (
            triton_step.step_many,
            {"table": "*i64", "owners": "*i32", **floats, **numbers},
            {**how, "WEIGHT": tl.bfloat16, "GRAD": tl.bfloat16, "STATE": tl.uint8, "EVEN": True},
        ),
        (triton_step.mark, {"values": "*bf16", "held": "*fp32", "size": "i32"}, {"SPAN": 4096}),
    ]
    assert 256 * triton_step.ROWS.value == fused.SIZE
    for kernel, types, constants in cases:
        names = kernel.arg_names
        signature = {name: types.get(name, "constexpr") for name in names}
        source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
        assert compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]


def test_many_parameters_masters_are_written_in_wide_stores():
    """Their addresses come out of a table, so that the compiler knows of no alignment unless it is told."""
    pytest.importorskip("triton")
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from tts_train.optim.kernels import triton_step

    names = triton_step.step_many.arg_names
    types = {name: "fp32" for name in ("lr", "beta1", "beta2", "eps", "decay", "clip", "log1", "log2")}
    types |= {"table": "*i64", "owners": "*i32"} | dict.fromkeys(("maps", "held", "counts", "upcoming"), "*fp32")
    how = {"LION": False, "EIGHT": False, "ROUNDING": 2, "CLIPS": False, "EVEN": True}
    how |= {"WEIGHT": tl.bfloat16, "GRAD": tl.bfloat16, "STATE": tl.float32}
    constants = {(names.index(name),): value for name, value in how.items()}
    source = ASTSource(triton_step.step_many, {name: types.get(name, "constexpr") for name in names}, constants)
    code = compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    assert code.count("st.global.b32") == 1  # the step count
    assert code.count("st.global.v4.b32") == 7  # eight elements of 16 bits, and of 32 bits thrice


def test_odd_sizes_are_launched_apart():
    """One that needs a mask would take wide loads from all others of its launch."""
    parts = [
        fused.Part(torch.zeros(size), torch.zeros(size), [torch.zeros(size)] * 2, [], None, 0, 0, (0, 0))
        for size in (1024, 4096, 1000)
    ]
    kinds = [part.kind for part in parts]
    assert kinds[0] == kinds[1] != kinds[2]


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "lion8bit"])
@pytest.mark.parametrize("in_backward", [False, True])
def test_a_plan_sees_one_operator_for_many_parameters(name, in_backward):
    seen = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((str(func), args))
            return func(*args, **(kwargs or {}))

    net = torch.nn.Sequential(*(torch.nn.Linear(128, 128) for _ in range(5))).to(torch.bfloat16)
    shapes = Shapes()
    shapes.module(net)
    with planning_for("cuda"):
        options = OptimizerOptions(name, in_backward=in_backward, rounding="stochastic")
        optimizer = build_optimizer(net, options)
        with Seen():
            net(shapes.fake(torch.empty(2, 128, dtype=torch.bfloat16))).sum().backward()
            optimizer.step()
    steps = [args for called, args in seen if called.startswith("tts_train.optimizer_step")]
    # Weights and biases have their own states of 8 bits or 32, and their own decay.
    assert len(steps) == (10 if in_backward else 2)
    assert sum(len(args[0]) for args in steps) == 10
    matrices = next(args for args in steps if args[0][0].numel() == 128 * 128)
    kinds = {tensor.dtype for tensor in matrices[2]}
    assert kinds == ({torch.float32} if name == "adamw" else {torch.uint8})


def on_a_gpu(name, way, dtype, *, device):
    """Return the weights and states after five steps whose gradients are the same on every device."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(512, 384), (300, 77), (96,)]
    net = torch.nn.ParameterList([torch.randn(shape, generator=generator).to(dtype) for shape in shapes]).to(device)
    optimizer = build_optimizer(net, OptimizerOptions(name, lr=1e-3, weight_decay=0.1, **way))
    for _ in range(5):
        for parameter in net:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype).to(device)
        if way.get("in_backward"):
            for parameter in net:
                optimizer.receive(parameter)
        optimizer.step()
    return [parameter.detach().cpu() for parameter in net], optimizer


WAYS = {
    "at once": {},
    "in backward": {"in_backward": True},
    "offloaded": {"offload": True},
    "both": {"in_backward": True, "offload": True},
}
NAMES, ROUNDINGS = ("adamw", "adamw8bit", "lion8bit"), ("nearest", "stochastic", "master")
# Compiling one kernel takes a card's host seconds. There are two a name and rounding, for many parameters and for one,
# and the last three ways share the second: each is tried with every name and every rounding once.
CASES = [
    *((name, how, "at once") for name in NAMES for how in ROUNDINGS if (name, how) != ("adamw", "nearest")),
    *((NAMES[i], ROUNDINGS[(i + j) % 3], way) for j, way in enumerate(list(WAYS)[1:]) for i in range(3)),
]
"""``adamw`` with ``nearest`` at once is torch's own AdamW, which has no kernel of ours."""


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "rounding_", "way"), CASES)
def test_a_card_steps_as_a_cpu_does(name, rounding_, way):
    how = WAYS[way]
    ours, optimizer = on_a_gpu(name, {"rounding": rounding_, **how}, torch.bfloat16, device="cuda")
    theirs, _ = on_a_gpu(name, {"rounding": rounding_, **how}, torch.bfloat16, device="cpu")
    assert optimizer.skips_on_device
    for mine, wanted in zip(ours, theirs, strict=True):
        # Five steps of 1e-3: a weight that is rounded another way once is one bfloat16 step off.
        torch.testing.assert_close(mine.float(), wanted.float(), rtol=2**-6, atol=2e-3)
        assert (mine != wanted).float().mean() < 0.05
    # When a parameter is stepped, and from where its states come, changes no bit: our kernel against itself.
    other_way = WAYS["in backward"] if (name, rounding_) == ("adamw", "nearest") else {}
    again, _ = on_a_gpu(name, {"rounding": rounding_, **other_way}, torch.bfloat16, device="cuda")
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))


def test_cases_for_a_card_are_all_stepped_by_our_kernel_and_cover_every_pair():
    # On a CPU, with few numbers: what is asked of the optimiser must be there, and its numbers be comparable.
    for name, rounding_, way in CASES:
        net = torch.nn.ParameterList([torch.zeros(2, 3, dtype=torch.bfloat16)])
        optimizer = build_optimizer(net, OptimizerOptions(name, rounding=rounding_, **WAYS[way]))
        assert hasattr(optimizer, "skips_on_device"), (name, rounding_, way)
    pairs = {(name, how) for name in NAMES for how in ROUNDINGS}
    assert {case[:2] for case in CASES} == pairs
    assert {(case[0], case[2]) for case in CASES} == {(name, way) for name in NAMES for way in WAYS}
    assert {(case[1], case[2]) for case in CASES} == {(how, way) for how in ROUNDINGS for way in WAYS}


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 3], ids=["a kernel of its own", "one kernel for all"])
def test_a_step_that_is_held_on_a_card_waits_for_nothing_and_changes_nothing(count):
    net = torch.nn.ParameterList(torch.randn(256, 256, device="cuda", dtype=torch.bfloat16) for _ in range(count))
    optimizer = build_optimizer(net, OptimizerOptions("adamw8bit", rounding="stochastic"))
    # The first step brings the table of codes to the card, which waits; it is for the whole run.
    for weight in net:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    for held in (0.0, 1.0):
        before = [weight.detach().clone() for weight in net]
        for weight in net:
            weight.grad = torch.randn_like(weight)
        optimizer.found_inf = torch.full((), held, device="cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(torch.equal(*pair) == bool(held) for pair in zip(net, before, strict=True))


def test_bits_of_rounding_are_even_and_independent():
    """Each of the 16 bits is set in half of the draws; neighbours, steps and parameters do not go together."""
    count = 1 << 18
    device = torch.device("cpu")
    draws = torch.stack([
        rounding.noise(0, count, rounding.step_key(rounding.parameter_key(0, place), step), device)
        for place, step in ((0, 1), (0, 2), (1, 1), (1, 2), (250, 1), (0, 100_000))
    ])  # fmt: skip
    assert draws.min() >= 0
    assert draws.max() < 1 << 16
    bits = (draws[..., None] >> torch.arange(16)) & 1
    # 96 shares of 2^18 coins: five standard errors.
    assert ((bits.double().mean(1) - 0.5).abs() < 5 * 0.5 / count**0.5).all()
    # Chi-square over the 256 values of the upper byte: 255 +- 23.
    for one in draws:
        seen = torch.bincount(one >> 8, minlength=256).double()
        assert 255 - 6 * 23 < ((seen - count / 256) ** 2 / (count / 256)).sum() < 255 + 6 * 23
    values = draws.double() - draws.double().mean(1, keepdim=True)
    series = [*values, *(values[0].roll(shift) for shift in (1, 2, 3, 64, 256, 4096))]
    correlations = torch.corrcoef(torch.stack(series)) - torch.eye(len(series), dtype=torch.float64)
    assert correlations.abs().max() < 5 / count**0.5


def test_a_weights_mean_over_steps_is_exact():
    """The same element in 4,096 steps is rounded up as often as it should be."""
    key, steps = rounding.parameter_key(0, 7), 4096
    value = torch.full((257,), 1.0 + 0.3 / 128)
    shares = torch.stack([
        (rounding.round_stochastically(value, rounding.step_key(key, step)) > 1).double() for step in range(steps)
    ]).mean(0)  # fmt: skip
    assert (shares - 0.3).abs().max() < 5 * (0.3 * 0.7 / steps) ** 0.5


def test_rounding_does_not_depend_on_how_a_parameter_is_cut():
    key = rounding.step_key(rounding.parameter_key(0, 2), 9)
    values = torch.randn(300_001)
    whole = rounding.round_stochastically(values, key)
    for cuts in ((0, 300_001), (0, 1, 2, 777, 131_072, 131_073, 300_001)):
        pieces = [rounding.round_stochastically(values[a:b], key, start=a) for a, b in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(pieces), whole)


def test_bits_of_rounding_are_written_down():
    """The same on every machine, device and version: a continued run depends on it."""
    key = rounding.step_key(rounding.parameter_key(0, 3), 7)
    assert key == (1612391961, 1718400062)
    found = rounding.noise(5, 11, key, torch.device("cpu")).tolist()
    assert found == [4181, 8480, 54966, 48378, 55133, 46875]


def test_operators_say_what_they_write():
    schema = fused.optimizer_step._opoverload._schema
    written = {one.name for one in schema.arguments if one.alias_info is not None and one.alias_info.is_write}
    assert written == {"weights", "states", "scales", "masters", "upcoming"}
