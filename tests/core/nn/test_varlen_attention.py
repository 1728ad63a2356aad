"""The kernel for documents of any length: what it is given, on a CPU; what it computes, on a card."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tts_train.memory.step.fused import varlen_flops
from tts_train.memory.step.shapes import Shapes
from tts_train.memory.step.tracker import PeakTracker
from tts_train.nn.devices import planning_for
from tts_train.nn.kernels.varlen_attention import varlen_attention
from tts_train.nn.packed_attention import packed_attention_thd

LENGTHS = [1, 7, 2, 5]
HEADS, KEY_HEADS = 6, 2


def tensors(lengths, *, heads=HEADS, key_heads=KEY_HEADS, width=8, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(1)
    shapes = [(sum(lengths), n, width) for n in (heads, key_heads, key_heads)]
    qkv = [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_() for s in shapes]
    return qkv, torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=device)


def one_by_one(query, key, value, lengths, scale=None):
    """Attention in float64 by its definition."""
    edges = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    repeats = query.shape[1] // key.shape[1]
    done = []
    for start, end in pairwise(edges):
        q, k, v = (each[start:end].double().transpose(0, 1) for each in (query, key, value))
        k, v = k.repeat_interleave(repeats, dim=0), v.repeat_interleave(repeats, dim=0)
        hidden = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device).triu(1)
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(hidden, -torch.inf)
        done.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(done)


@pytest.fixture
def kernels():
    """PyTorch's two operators, which only CUDA has, on a CPU by the definition; what they were given is recorded."""
    library, given = torch.library.Library("aten", "IMPL"), []

    def forward(query, key, value, starts, also, longest, longest_too, dropout, causal, debug, *, scale=None, **_):
        assert causal
        assert not dropout
        assert torch.equal(starts, also)
        given.append({"key_heads": key.shape[1], "longest": (longest, longest_too), "scale": scale})
        output = one_by_one(query, key, value, starts.diff().tolist(), scale).to(query.dtype)
        sums = torch.zeros(query.shape[1], query.shape[0])
        return output, sums, torch.zeros(2, dtype=torch.uint64), torch.zeros(()), torch.zeros(0)

    def backward(
        grad, query, key, value, output, sums, starts, also, longest, longest_too, dropout, causal, drawn, unused,
        *, scale=None, **_
    ):  # fmt: skip
        given.append({
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
            "filled": torch.utils.deterministic.fill_uninitialized_memory,
        })  # fmt: skip
        assert grad.is_contiguous()

        def slopes():
            leaves = [each.detach().requires_grad_() for each in (query, key, value)]
            made = one_by_one(*leaves, starts.diff().tolist(), scale)
            return torch.autograd.grad(made, leaves, grad.to(made.dtype))

        # Below autograd this thread records nothing; another one does.
        with ThreadPoolExecutor(1) as other:
            return other.submit(slopes).result()

    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    yield given
    library._destroy()


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("recomputed", [False, True])
def test_the_kernel_gets_grouped_heads_and_a_deterministic_backward(kernels, scale, recomputed):
    qkv, starts = tensors(LENGTHS)
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory

    def attend(*given):
        return varlen_attention(*given, starts, max(LENGTHS), scale)

    output = checkpoint(attend, *qkv, use_reentrant=False) if recomputed else attend(*qkv)
    expected = one_by_one(*qkv, LENGTHS, scale)
    torch.testing.assert_close(output, expected)
    weights = torch.randn(HEADS, sum(LENGTHS), 8, dtype=torch.float64).transpose(0, 1)
    grads = [torch.autograd.grad((made * weights).sum(), qkv) for made in (output, expected)]
    for grad, other in zip(*grads, strict=True):
        torch.testing.assert_close(grad, other)
    assert [call for call in kernels if "scale" in call] == [
        {"key_heads": KEY_HEADS, "longest": (max(LENGTHS),) * 2, "scale": scale}
    ] * (1 + recomputed)
    assert [call for call in kernels if "scale" not in call] == [
        {"deterministic": True, "warns": False, "filled": False}
    ]
    assert before == (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)


def test_a_plan_sees_one_operator_with_grouped_heads():
    (query, key, value), starts = tensors(LENGTHS, dtype=torch.bfloat16)
    shapes = Shapes()
    fakes = [shapes.fake(each) for each in (query, key, value)]
    with planning_for("cuda"):
        output = packed_attention_thd(*fakes, cu_seqlens=starts, max_seqlen=max(LENGTHS))
        output.sum().backward()
    assert output.shape == query.shape
    assert [each.grad.shape for each in fakes] == [each.shape for each in (query, key, value)]


def test_operations_are_those_of_all_heads():
    (query, key, value), starts = tensors(LENGTHS)
    squares = sum(length**2 for length in LENGTHS)
    one = 2 * HEADS * 8 * squares
    forward, backward = torch.ops.tts_train.varlen_attention, torch.ops.tts_train.varlen_attention_backward
    assert varlen_flops(forward.default, (query, key, value, starts, 7, None)) == 2 * one
    rest = (query, key, value, query, query.new_empty(HEADS, 15), starts, 7, None)
    assert varlen_flops(backward.default, (query, *rest)) == 5 * one
    assert varlen_flops(torch.ops.aten.add.Tensor, (query, query)) == 0


def test_a_plan_counts_what_backward_works_in():
    (query, key, value), starts = tensors([300] * 8, heads=24, key_heads=8, width=128, dtype=torch.bfloat16)
    shapes = Shapes()
    fakes = [shapes.fake(each) for each in (query, key, value)]
    with planning_for("cuda"), PeakTracker(shapes) as tracker:
        output = packed_attention_thd(*fakes, cu_seqlens=starts, max_seqlen=300)
        output.backward(grad := shapes.fake(torch.empty_like(output)))
        peak = tracker.peak_bytes
    # Output and its gradient, those of queries, keys and values; then the last two for 24 heads each and float32 sums,
    # for 128 rows more a document.
    assert grad.shape == query.shape
    rows, size = 2400, 128 * 2
    seen = rows * size * (3 * 24 + 2 * 8) + 4 * 24 * rows
    working = 2 * rows * size * 24 + 4 * 24 * (rows + 8 * 128) * 129
    assert peak == pytest.approx(seen + working, rel=0.001)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_card_it_is_attention_and_equal_every_time(dtype):
    lengths = [1, 1100, 350, 17, 2, 640]
    qkv, starts = tensors(lengths, heads=24, key_heads=8, width=128, dtype=dtype, device="cuda")
    weights = torch.randn(qkv[0].shape, dtype=torch.float64, device="cuda", generator=torch.Generator("cuda"))

    def run(recomputed):
        def attend(*given):
            return packed_attention_thd(*given, cu_seqlens=starts, max_seqlen=max(lengths), lengths=lengths)

        output = checkpoint(attend, *qkv, use_reentrant=False) if recomputed else attend(*qkv)
        return output, torch.autograd.grad((output.double() * weights).sum(), qkv)

    expected = one_by_one(*qkv, lengths)
    slopes = torch.autograd.grad((expected * weights).sum(), qkv)
    output, grads = run(False)
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=2e-2)
    for grad, other in zip(grads, slopes, strict=True):
        torch.testing.assert_close(grad.double(), other.double(), rtol=0, atol=2e-2 * other.abs().max().item())
    for recomputed in (False, True, False, True):
        again, others = run(recomputed)
        assert torch.equal(again, output)
        assert all(torch.equal(one, other) for one, other in zip(grads, others, strict=True))
