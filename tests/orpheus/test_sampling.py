"""The nucleus without sorting: equal to a sort in float64, on the way of a CPU and on that of a card."""

from __future__ import annotations

import pytest
import torch

from tests.orpheus.family import Allowed
from tts_train.families.token_lm.decoding.sampling import by_digits, by_parts, sample
from tts_train.families.token_lm.model import Sampling
from tts_train_orpheus import layout


def by_sorting(probabilities, top_p):
    """The definition: most likely first, and an id stays if those before it have less than top_p."""
    values = probabilities.double().sort(dim=-1, descending=True).values
    before = torch.nn.functional.pad(values.cumsum(dim=-1)[:, :-1], (1, 0))
    return values.gather(-1, (before < top_p).sum(dim=-1, keepdim=True) - 1).float()


@pytest.mark.parametrize("size", [1, 5, 4097, 156_940])
@pytest.mark.parametrize("sharpness", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("top_p", [0.001, 0.3, 0.95, 0.99])
def test_both_searches_find_the_nucleus(size, sharpness, top_p):
    generator = torch.Generator().manual_seed(size)
    probabilities = (sharpness * torch.randn(3, size, generator=generator)).softmax(dim=-1)
    kept = probabilities >= by_sorting(probabilities, top_p)
    assert torch.equal(probabilities >= by_digits(probabilities, top_p), kept)
    # Sums in float32 may differ in what the last id at the edge has.
    differs = (probabilities >= by_parts(probabilities, top_p)) != kept
    assert float((probabilities * differs).sum(dim=-1).max()) < 1e-5


def test_nearly_everything_is_kept_where_nearly_everything_is_asked_for():
    probabilities = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    for top_p in (0.9999999, 1 - 1e-12):
        for found in (by_digits(probabilities, top_p), by_parts(probabilities, top_p)):
            assert float(torch.where(probabilities >= found, probabilities, 0.0).sum(dim=-1).min()) > 1 - 1e-5


def test_what_is_equally_likely_at_the_edge_is_kept_together():
    probabilities = torch.tensor([[0.4, 0.2, 0.2, 0.2]])
    for search in (by_digits, by_parts):
        assert (probabilities >= search(probabilities, 0.5)).tolist() == [[True] * 4]
        assert (probabilities >= search(probabilities, 0.4)).sum() == 1


def test_a_card_draws_what_a_cpu_draws(monkeypatch):
    logits = 3 * torch.randn(64, 5000, generator=torch.Generator().manual_seed(0))
    noise = torch.empty(64, 5000).exponential_(generator=torch.Generator().manual_seed(1))

    def of(columns):
        return noise if columns is None else noise.gather(-1, columns)

    for sampling in (Sampling(), Sampling(top_p=0.5), Sampling(top_k=50), Sampling(top_p=1.0)):
        here = sample(logits, sampling, of)
        with monkeypatch.context() as patch:
            patch.setattr("tts_train.families.token_lm.decoding.sampling.least_likely", by_parts)
            assert torch.equal(sample(logits, sampling, of), here)


def test_allowed_ids_are_those_of_the_layout():
    head, hidden = torch.randn(layout.VOCAB_SIZE, 4), torch.randn(2, 4)
    whole = hidden @ head.T
    for constrain, counts in (
        ("none", [layout.VOCAB_SIZE] * 9),
        ("audio", [28_673] * 9),
        ("slots", [4097] + [4096] * 6),
    ):
        allowed = Allowed(constrain, layout.VOCAB_SIZE, torch.device("cpu"))
        for number, count in enumerate(counts[:7] + counts[:2]):
            step = torch.tensor(number)
            ids, blocked = allowed.ids(step), allowed.blocked(step)
            logits = allowed.logits(hidden, head, ids)
            assert logits.shape == (2, len(ids))
            torch.testing.assert_close(logits, whole[:, ids])
            assert torch.equal(allowed.used(whole, ids), whole[:, ids])
            free = ids if blocked is None else ids[~blocked]
            assert len(free) == len(set(free.tolist())) == count
            if constrain == "slots":
                assert set(layout.slot_of(free).tolist()) - {-1} == {number % 7}
            if constrain != "none":
                assert (layout.END_OF_SPEECH in free) == (constrain == "audio" or number % 7 == 0)
