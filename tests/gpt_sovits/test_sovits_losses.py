"""Critics and losses against the same sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from tests.gpt_sovits.sovits_tiny import tiny_network
from tts_train_gpt_sovits.networks.sovits import adversarial as losses
from tts_train_gpt_sovits.networks.sovits.adversarial import Critics, Judgement, PeriodCritic
from tts_train_gpt_sovits.stages.sovits.optimizer import parameter_groups


def judgement(scores, *maps):
    return Judgement(torch.tensor(scores), [torch.tensor(each) for each in maps])


REAL = [judgement([[1.0, 0.5]], [[1.0, 2.0]]), judgement([[0.0]], [[4.0]])]
MADE = [judgement([[0.5, 0.0]], [[1.0, 5.0]]), judgement([[1.0]], [[2.0]])]


def test_the_adversarial_losses():
    assert losses.critic_loss(REAL, MADE) == pytest.approx((0.125 + 0.125) + (1.0 + 1.0))
    assert losses.adversarial_loss(MADE) == pytest.approx((0.25 + 1.0) / 2 + 0.0)
    assert losses.feature_loss(REAL, MADE) == pytest.approx(2 * (1.5 + 2.0))


def test_recordings_get_no_gradient_from_feature_matching():
    real, made = torch.ones(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    losses.feature_loss([Judgement(real, [real])], [Judgement(made, [made])]).backward()
    assert real.grad is None
    assert made.grad is not None


def test_the_divergence_of_equal_normals_is_that_of_the_sample():
    # Both standard normal: what is left is half the squared sample, less a half, for each channel.
    latents = torch.tensor([[[2.0, 9.0], [0.0, 9.0]]])
    zeros, mask = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]])
    assert losses.kl_loss(latents, zeros, zeros, zeros, mask) == pytest.approx(2.0 - 0.5 - 0.5)
    wide = torch.full((1, 2, 2), math.log(2.0))
    assert losses.kl_loss(latents, zeros, zeros, wide, mask) == pytest.approx(2 * math.log(2.0) - 1.0 + 0.5)


def test_sixteen_bit_inputs_are_summed_in_float32():
    scores = torch.full((1, 100_000), 0.01, dtype=torch.bfloat16)
    assert losses.mean_square(scores, 0.0).dtype == torch.float32
    assert losses.mel_loss(scores, scores.double().float()).dtype == torch.float32
    assert losses.mean_square(scores.double(), 0.0).dtype == torch.float64


def test_one_pass_judges_like_two():
    torch.manual_seed(0)
    critics = Critics((2, 3)).eval()
    real, made = torch.randn(2, 1, 601), torch.randn(2, 1, 601)
    with torch.no_grad():
        together, apart = critics.compare(real, made), (critics(real), critics(made))
    for one, other in zip((*together[0], *together[1]), (*apart[0], *apart[1]), strict=True):
        torch.testing.assert_close(one.scores, other.scores)
        assert len(one.maps) == len(other.maps)
        for a, b in zip(one.maps, other.maps, strict=True):
            torch.testing.assert_close(a, b)


def test_a_period_sees_its_own_columns_only():
    torch.manual_seed(0)
    critic = PeriodCritic(3).eval()
    wave = torch.randn(1, 1, 300)
    changed = wave.clone()
    changed[..., 1::3] += 1.0
    with torch.no_grad():
        one, other = critic(wave).maps[0], critic(changed).maps[0]
    assert torch.equal(one[..., [0, 2]], other[..., [0, 2]])
    assert not torch.equal(one[..., 1], other[..., 1])


def test_text_learns_at_its_own_rate():
    network = tiny_network()
    groups = parameter_groups(network, lr=1e-3, text_lr_factor=0.4)
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 4e-4, 4e-4, 4e-4])
    encoder = network.content_encoder
    text = [encoder.text_embedding, encoder.text_encoder, encoder.fusion]
    for part, group in zip(text, groups[1:], strict=True):
        assert [id(each) for each in part.parameters()] == [id(each) for each in group["params"]]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_frozen_parameters_are_in_no_group():
    network = tiny_network()
    network.generator.requires_grad_(False)
    given = {id(each) for group in parameter_groups(network, lr=1e-3) for each in group["params"]}
    assert not given & {id(each) for each in network.generator.parameters()}
