"""Fused operators: the same numbers as plain PyTorch, in Triton's interpreter and on a card; shapes in a plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.nn.kernel_cases import cases
from tts_train.nn import kernels
from tts_train.nn.devices import planning_for
from tts_train.nn.kernels import fused
from tts_train.nn.kernels.rms_norm import add_rms_norm, rms_norm
from tts_train.nn.kernels.rope import rope
from tts_train.nn.kernels.swiglu import swiglu

ROOT = Path(__file__).parents[3]
WITHIN = {"float32": 2e-6, "bfloat16": 1.6e-2, "float16": 2e-3}
"""Greatest error, as a share of the greatest value: 16 units in the last place for float32, four of half precision."""


def check(results):
    assert len(results) > 50
    wrong = [
        (case, figures) for case, figures in results if not all(error <= WITHIN[case.split()[1]] for error in figures)
    ]
    assert wrong == []
    # An error of exactly nothing everywhere would mean that nothing was rounded, thus nothing computed in the type.
    assert any(max(figures) > 1e-4 for case, figures in results if case.split()[1] == "bfloat16")


@pytest.mark.slow
def test_interpreted_kernels_compute_what_plain_pytorch_does():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.core.nn.kernel_cases"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check([json.loads(line) for line in done.stdout.splitlines()])


def test_plain_pytorch_where_no_kernel_runs():
    assert not fused(torch.empty(1))
    check(list(cases("cpu")))


@pytest.mark.gpu
def test_kernels_of_a_card_compute_what_plain_pytorch_does():
    check(list(cases("cuda")))


@pytest.mark.parametrize("capability", [75, 80, 90])
def test_they_compile_for_cards_that_are_not_here(capability):
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from tts_train.nn.kernels import triton_rms_norm, triton_rope, triton_swiglu

    half, width = "*fp16" if capability < 80 else "*bf16", 3072
    row, turn = triton_rms_norm.settings(width), triton_rope.settings(24, 8, 64)
    floats = dict.fromkeys(("scale", "cos", "sin", "partial"), "*fp32") | {"eps": "fp32"}
    whole = dict.fromkeys(("width", "rows", "each", "heads", "key_heads", "half", "size"), "i32")
    cases = [
        (triton_rms_norm.forward, {"HAS_RESIDUAL": True, **row}),
        (triton_rms_norm.backward, {"HAS_TOTAL": True, "FOR_WEIGHT": True, **row}),
        (triton_rope.rotate, {"BACKWARDS": True, **turn}),
        (triton_swiglu.forward, {"BLOCK": 1024}),
        (triton_swiglu.backward, {"BLOCK": 1024}),
    ]
    for kernel, given in cases:
        warps = {"num_warps": given.pop("num_warps", 4)}
        types = {
            name: "constexpr" if name in given else {**floats, **whole}.get(name, half) for name in kernel.arg_names
        }
        source = ASTSource(kernel, types, {(kernel.arg_names.index(name),): value for name, value in given.items()})
        assert compile(source, target=GPUTarget("cuda", capability, 32), options=warps).asm["cubin"]


def test_batches_of_all_sizes_share_a_compiled_kernel():
    """A number of rows that is 1 or a multiple of 16 would otherwise have a kernel of its own."""
    pytest.importorskip("triton")
    from tts_train.nn.kernels import triton_rms_norm

    free = {one.name for one in triton_rms_norm.backward.params if one.do_not_specialize}
    assert free == {"rows", "each"}


class Named(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[func.name().removeprefix("tts_train::")] += 1
        return func(*args, **(kwargs or {}))


def test_a_plan_for_a_card_sees_one_operator_each_way():
    with FakeTensorMode() as mode, planning_for("cuda"):
        states, weight = (torch.empty(*shape, requires_grad=True) for shape in ((6, 32), (32,)))
        query, key = torch.empty(6, 4, 8, requires_grad=True), torch.empty(6, 2, 8, requires_grad=True)
        angles = torch.empty(6, 4)
    with planning_for("cuda"), mode, Named() as named:
        total, normed = add_rms_norm(rms_norm(states, weight, 1e-5), states, weight, 1e-5)
        turned = rope(query, key, angles, angles)
        results = [total, normed, *turned, swiglu(states, normed)]
        assert [tuple(one.shape) for one in results] == [(6, 32), (6, 32), (6, 4, 8), (6, 2, 8), (6, 32)]
        torch.autograd.backward(results, [torch.empty_like(one) for one in results])
    assert named.names["rms_norm_backward"] == 2
    assert named.names["rope"] == 2
    expected = ("rms_norm", "add_rms_norm", "swiglu", "swiglu_backward")
    assert [named.names[name] for name in expected] == [1, 1, 1, 1]
    assert not [name for name in named.names if name.split("::")[-1] in ("rsqrt", "silu", "cat")]
    assert query.grad.shape == query.shape


@pytest.mark.parametrize(("capability", "runs"), [((6, 1), False), ((7, 5), True), ((9, 0), True)])
def test_a_gpu_that_triton_does_not_support_gets_plain_torch(capability, runs, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    on_card = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))
    kernels.triton_lacks.cache_clear()
    try:
        assert kernels.fused(on_card) is runs
        assert (kernels.triton_lacks(on_card.device) is None) is runs
    finally:
        kernels.triton_lacks.cache_clear()
