"""Attention in rows of a few positions: the same numbers as a kernel's, and little kept for backward."""

import pytest
import torch
from torch.nn import functional as F

from tts_train.nn.packed_attention import SHORT, short_attention


def states(rows=7, heads=6, key_heads=2, positions=16, width=8):
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, positions, count, width) for count in (heads, key_heads, key_heads))
    made = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    # As projections leave them: positions first.
    return [each.transpose(1, 2).requires_grad_() for each in made]


@pytest.mark.parametrize(("positions", "key_heads"), [(16, 2), (SHORT, 6), (2, 3)])
def test_short_rows_attend_as_a_kernel_does(positions, key_heads):
    one, other = (states(positions=positions, key_heads=key_heads) for _ in range(2))
    found = short_attention(*one, scale=0.3)
    wanted = F.scaled_dot_product_attention(*other, is_causal=True, enable_gqa=True, scale=0.3)
    assert torch.allclose(found, wanted, atol=1e-12)
    for output in (found, wanted):
        output.square().sum().backward()
    assert all(torch.allclose(a.grad, b.grad, atol=1e-12) for a, b in zip(one, other, strict=True))


def test_scores_may_pass_what_float16_holds():
    query, key, value = (50 * each.detach().half() for each in states(width=128))
    scores = query.float() @ key.float().repeat_interleave(3, dim=1).mT
    assert float(scores.abs().max()) > torch.finfo(torch.float16).max
    assert short_attention(query, key, value).isfinite().all()


def test_backward_keeps_no_more_than_the_states_and_their_weights():
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    given = states(rows=64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        short_attention(*given)
    weights = 64 * 6 * 16 * 16 * 8
    # Flash attention's float32 sums would be 64 rows of 128 positions for each head.
    assert sum(kept.values()) <= 3 * sum(each.numel() * 8 for each in given) + 3 * weights
