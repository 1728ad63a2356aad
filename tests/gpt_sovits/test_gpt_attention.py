"""Attention with dropped weights has the gradients of its formula, and without is the library's."""

from __future__ import annotations

import pytest
import torch

from tts_train_gpt_sovits.networks.gpt.attention import attend_spans, dropout, gates, relu_dropout
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack


def spans():
    sizes = ((2, 5, 3), (3, 4, 6), (1, 2, 2))
    rows = [
        GptUtterance(
            phonemes=torch.arange(x), codes=torch.arange(y), rejected=torch.cat([torch.arange(2), torch.arange(z)])
        )
        for x, y, z in sizes
    ]
    return pack(rows)["spans"]


def operands(dtype=torch.float64):
    """Queries, keys and values as a network has them: views of one tensor."""
    chance = torch.Generator().manual_seed(0)
    whole = torch.randn(spans()[-1].end, 3, 2, 4, dtype=torch.float64, generator=chance).to(dtype)
    return [each.requires_grad_() for each in whole.unbind(1)]


def plain(query, key, value, share):
    """The formula, span by span, with the draws in the same order."""
    done = []
    for span in spans():
        places = torch.cat([torch.arange(*each) for each in span.seen_and_own])
        own, keys, values = query[span.start : span.end], key[places], value[places]
        scores = torch.einsum("nhc,mhc->hnm", own, keys) * query.shape[2] ** -0.5
        if span.causal:
            size = span.end - span.start
            hidden = torch.ones(size, len(places), dtype=torch.bool).triu(len(places) - size + 1)
            scores = scores.masked_fill(hidden, -torch.inf)
        weights = scores.softmax(-1)
        if share:
            weights = weights * gates(weights, share)
        done.append(torch.einsum("hnm,mhc->nhc", weights, values).flatten(1))
    return torch.cat(done)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_it_is_the_formula_and_so_are_its_gradients(share):
    results = []
    for attend in (lambda *each: attend_spans(*each, spans(), share), lambda *each: plain(*each, share)):
        given = operands()
        torch.manual_seed(1)
        done = attend(*given)
        done.square().sum().backward()
        results.append([done.detach(), *(each.grad for each in given)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_its_gradients_are_numerically_right():
    def attend(query, key, value):
        torch.manual_seed(2)
        return attend_spans(query, key, value, spans(), 0.3)

    assert torch.autograd.gradcheck(attend, operands())


def test_half_precision_stays_what_it_is():
    given = operands(torch.bfloat16)
    torch.manual_seed(1)
    done = attend_spans(*given, spans(), 0.2)
    done.float().sum().backward()
    assert done.dtype == given[0].grad.dtype == torch.bfloat16
    torch.manual_seed(1)
    wide = attend_spans(*(each.detach().float() for each in given), spans(), 0.2)
    torch.testing.assert_close(done.float(), wide, rtol=2e-2, atol=2e-2)


def test_the_positive_part_is_dropped_as_apart():
    states = torch.randn(40, 9, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    ours = relu_dropout(states, 0.3)
    torch.manual_seed(0)
    apart = dropout(torch.relu(states), 0.3)
    assert torch.equal(ours, apart)
    assert torch.equal(*(torch.autograd.grad(each.square().sum(), states)[0] for each in (ours, apart)))
    assert torch.equal(relu_dropout(states, 0.3, training=False), torch.relu(states))
