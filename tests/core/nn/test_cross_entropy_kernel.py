"""The one-pass cross-entropy: the plain head's numbers, in Triton's interpreter and on a card; aligned in a plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.nn.cross_entropy_cases import cases
from tts_train.memory.step.shapes import Shapes
from tts_train.nn import linear_cross_entropy as linear_cross_entropy_module
from tts_train.nn.chunk_logits import LogitsBuffers, row_stride
from tts_train.nn.devices import planning_for
from tts_train.nn.linear_cross_entropy import linear_cross_entropy

UNIT = {"float32": 2e-6, "bfloat16": 2**-8, "float16": 2**-11}
"""Greatest error of a slope, whose size is at most 1: a rounding to the type; float32's is that of exp."""
LOSS = 1e-5
GRADIENT = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
"""Greatest error of a gradient as a share of its greatest value, against the plain head in the same type."""


def check(results):
    assert len(results) > 30
    for name, figures in results:
        kind = name.split()[1] if len(name.split()) > 1 else ""
        allowed = {"loss": LOSS, "validation": LOSS, "slope": UNIT.get(kind), "gradient": GRADIENT.get(kind)}
        wrong = {key: value for key, value in figures.items() if not value <= (allowed.get(key) or 0)}
        assert wrong == {}, (name, figures)


@pytest.mark.slow
def test_interpreted_it_is_the_plain_head():
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.nn.cross_entropy_cases"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    check(results)
    # The types were really rounded to, and the kernel really ran: its order of sums is another one.
    assert max(figures["slope"] for name, figures in results if name.startswith("operator bfloat16")) > 1e-4
    assert max(figures["loss"] for name, figures in results if name.startswith("head float32")) > 0


@pytest.mark.gpu
def test_on_a_card_it_is_the_plain_head():
    check(list(cases("cuda")))


@pytest.mark.parametrize("capability", [75, 80, 90])
def test_it_compiles_for_cards_that_are_not_here(capability):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    from tts_train.nn.kernels.triton_cross_entropy import step

    given = {"logits": "*fp16" if capability < 80 else "*bf16", "targets": "*i64", "losses": "*fp32"}
    given |= {"predictions": "*i64", "stride": "i32", "scale": "fp32"}
    fixed = {"COLUMNS": 156_940, "SLOPES": True, "BLOCK": 4096}
    aligned = {(place,): [["tt.divisibility", 16]] for place in range(5)}
    source = triton.compiler.ASTSource(step, given | dict.fromkeys(fixed, "constexpr"), constexprs=fixed, attrs=aligned)
    code = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8}).asm
    assert code["cubin"]
    # Whole blocks are read and written 16 bytes at a time.
    assert "ld.global.v4.b32" in code["ptx"]
    assert "st.global.v4.b32" in code["ptx"]


class Matrices(TorchDispatchMode):
    """Names of operators, and the steps in bytes between rows of what is multiplied."""

    def __init__(self):
        super().__init__()
        self.names, self.steps, self.largest = [], [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.names.append(func._schema.name)
        if func._schema.name in ("aten::mm", "aten::addmm_"):
            given = [each for each in (*args, (kwargs or {}).get("out")) if isinstance(each, torch.Tensor)]
            self.steps += [max(each.stride()) * each.element_size() for each in given]
        for each in made if isinstance(made, tuple) else (made,):
            if isinstance(each, torch.Tensor):
                wide = self.largest.get(each.dtype, 0)
                self.largest[each.dtype] = max(wide, each.untyped_storage().nbytes() // each.element_size())
        return made


def planned_head(device, *, trained=torch.bfloat16, autocast=False):
    shapes = Shapes()
    hidden = shapes.fake(torch.empty(40, 32, dtype=torch.bfloat16, requires_grad=True))
    weight = shapes.fake(torch.empty(1004, 32, dtype=trained, requires_grad=True))
    targets = torch.arange(40)
    with planning_for(device), Matrices() as seen, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        linear_cross_entropy(hidden, weight, targets, kept=targets, chunk_tokens=16).loss_sum.backward()
    return seen


def test_a_card_multiplies_aligned_rows_and_makes_no_wide_copy():
    seen = planned_head("cuda")
    assert len(seen.steps) >= 9
    assert not [step for step in seen.steps if step % 16]
    assert "tts_train::cross_entropy" in seen.names
    assert seen.largest[torch.float32] < 1004
    assert seen.largest[torch.bfloat16] == max(16 * row_stride(1004), 1004 * 32)
    # A CPU's plan keeps the CPU's layout, and rows of 1,004 are not aligned in it.
    plain = planned_head("cpu")
    assert [step for step in plain.steps if step % 16]
    assert "tts_train::cross_entropy" not in plain.names
    assert plain.largest[torch.float32] == 16 * 1004


def test_float32_gradients_are_written_by_the_product_on_a_card():
    seen = planned_head("cuda", trained=torch.float32, autocast=True)
    assert not [step for step in seen.steps if step % 16]
    assert seen.largest[torch.float32] == 1004 * 32


def test_rows_of_the_buffers_begin_at_aligned_addresses():
    matrix = torch.randn(97, 8)
    buffers = LogitsBuffers([(5, 97)], matrix, torch.float32, fused=True)
    states = torch.randn(5, 8)
    product = buffers.product(states, matrix)
    assert product.stride() == (row_stride(97), 1) == (128, 1)
    assert [row.data_ptr() % 64 for row in product] == [product.data_ptr() % 64] * 5
    torch.testing.assert_close(product, states @ matrix.T)
    plain = LogitsBuffers([(5, 97)], matrix, torch.float32, fused=False).product(states, matrix)
    assert plain.is_contiguous()


@pytest.mark.parametrize(("scale", "survive"), [(linear_cross_entropy_module._HALF_SCALE, True), (1.0, False)])
def test_small_slopes_survive_in_float16(scale, survive, monkeypatch):
    # Every row but the target's has a share of one in nine million, between float16's two smallest numbers but one.
    monkeypatch.setattr(linear_cross_entropy_module, "_HALF_SCALE", scale)
    weight = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0)) / 4
    weight[0] = torch.tensor([16.0, 0, 0, 0, 0, 0, 0, 0])
    weight[1:, 0] = 0
    weight, targets = weight.half().requires_grad_(), torch.zeros(4, dtype=torch.int64)
    hidden = torch.eye(8)[:1].repeat(4, 1).half().requires_grad_()
    inputs = [hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()]
    loss = cross_entropy(inputs[0] @ inputs[1].T, targets, reduction="sum") * 2.0**16
    expected = torch.autograd.grad(loss, inputs)
    found = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets).loss_sum * 2.0**16, (hidden, weight))
    share = (found[0].double() - expected[0])[:, 1:].abs().max() / expected[0][:, 1:].abs().max()
    assert bool(share < 0.005) is survive
    torch.testing.assert_close(found[1].double()[0], expected[1][0], rtol=1e-2, atol=0.1)
