"""The codebook: nearest entries, running means, dead entries and its first placing."""

from __future__ import annotations

import torch

from tts_train_gpt_sovits.networks.sovits.quantizer import Quantizer


def quantizer(**settings):
    made = Quantizer(4, 2, **settings)
    made.embedding.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]))
    made.sums.copy_(made.embedding)
    made.counts.fill_(1.0)
    made.initialised.fill_(1.0)
    return made


FEATURES = torch.tensor([[[0.1, 0.9, 0.1], [0.1, 0.2, 0.8]]])  # near entries 0, 1 and 2


def test_the_nearest_entry_is_found():
    made = quantizer().eval()
    values, codes, commitment = made(FEATURES)
    assert codes.tolist() == made.encode(FEATURES).tolist() == [[0, 1, 2]]
    assert torch.equal(values, made.decode(codes))
    assert values[0, :, 1].tolist() == [1.0, 0.0]
    assert commitment == 0.0
    assert made.encode(torch.full((2, 2, 5), 8.0)).shape == (2, 5)


def test_looking_up_moves_nothing():
    made = quantizer().eval()
    before = made.embedding.clone()
    made(FEATURES)
    assert torch.equal(made.embedding, before)


def test_training_moves_the_entries_by_running_means():
    made = quantizer(decay=0.9, dead_below=0.0).train()
    _, _, commitment = made(FEATURES)
    # Counts: 0.9 of 1, and 0.1 more where a feature was near; sums likewise.
    torch.testing.assert_close(made.counts, torch.tensor([1.0, 1.0, 1.0, 0.9]))
    torch.testing.assert_close(made.sums[0], torch.tensor([0.01, 0.01]))
    torch.testing.assert_close(made.sums[1], torch.tensor([0.99, 0.02]))
    torch.testing.assert_close(made.embedding[1], torch.tensor([0.99, 0.02]), rtol=1e-3, atol=1e-4)
    distance = torch.tensor([0.1, 0.1, -0.1, 0.2, 0.1, -0.2]).square().mean()
    torch.testing.assert_close(commitment, distance)


def test_gradients_pass_straight_through():
    made = quantizer().train()
    features = FEATURES.clone().requires_grad_()
    values, _, _ = made(features)
    values.sum().backward()
    assert torch.equal(features.grad, torch.ones_like(FEATURES))


def test_a_dead_entry_becomes_a_feature():
    torch.manual_seed(0)
    made = quantizer(dead_below=0.5).train()
    made.counts[3] = 0.1
    features = FEATURES.transpose(1, 2)[0]
    made(FEATURES)
    assert min(torch.dist(made.embedding[3], row) for row in features) < 1e-3
    assert torch.dist(made.embedding[1], torch.tensor([1.0, 0.0])) < 0.1


def test_a_fresh_codebook_is_placed_on_its_first_batch():
    torch.manual_seed(0)
    centres = torch.tensor([[5.0, 5.0], [-5.0, 5.0], [5.0, -5.0], [-5.0, -5.0]])
    rows = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2)
    made = Quantizer(4, 2, dead_below=0.0).train()
    made(rows.T[None])
    assert made.initialised == 1.0
    # Each entry is the mean of what is nearest to it, before the batch's own step and after.
    codes = made.encode(rows.T[None])[0]
    assert len(codes.unique()) > 1
    for code in codes.unique():
        torch.testing.assert_close(made.embedding[code], rows[codes == code].mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(made.counts.sum(), torch.tensor(200.0))
