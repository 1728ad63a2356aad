"""The preference objective and the rejected sequences."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.upstream import corrupt_padded
from tts_train.datasets import Corruption
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.stages.gpt.dpo import preference

CODES = torch.arange(6)


def test_codes_are_said_twice_or_left_out():
    assert Corruption("repeat", 1, 3).of(CODES).tolist() == [0, 1, 2, 1, 2, 3, 4, 5]
    assert Corruption("lost", 1, 3).of(CODES).tolist() == [0, 3, 4, 5]


def test_upstreams_rows_count_their_padding():
    rows, lengths = corrupt_padded(
        torch.tensor([[1, 2, 3], [4, 9, 9]]), [Corruption("repeat", 0, 2), Corruption("lost", 0, 1)]
    )
    assert rows.tolist() == [[1, 2, 1, 2, 3], [9, 9, 0, 0, 0]]
    assert lengths.tolist() == [5, 2]


def test_draws_always_change_the_codes_and_repeat_with_the_seed():
    draws = [Corruption.drawn(6, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert draws == [Corruption.drawn(6, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert {each.kind for each in draws} == {"repeat", "lost"}
    assert all(0 <= each.start < each.end < 6 for each in draws)
    assert all(each.of(CODES).tolist() != CODES.tolist() for each in draws)
    assert Corruption.drawn(1).start == Corruption.drawn(1).end == 0


def test_the_objective_is_the_published_one():
    chosen, rejected = torch.tensor([-10.0, -20.0]), torch.tensor([-12.0, -19.0])
    reference = (torch.tensor([-11.0, -21.0]), torch.tensor([-12.5, -18.0]))
    rewards = 0.2 * torch.tensor([2.0 - 1.5, -1.0 + 3.0])
    got = preference(chosen, rejected, reference=reference)
    torch.testing.assert_close(got.margins, rewards)
    torch.testing.assert_close(got.loss, -rewards.sigmoid().log().mean())
    assert got.accuracy == 1.0
    assert preference(chosen, rejected).accuracy == 0.5


def test_smoothing_mixes_in_the_other_way_round():
    chosen, rejected = torch.tensor([-1.0]), torch.tensor([-4.0])
    right, wrong = preference(chosen, rejected).loss, preference(rejected, chosen).loss
    torch.testing.assert_close(preference(chosen, rejected, label_smoothing=0.1).loss, 0.9 * right + 0.1 * wrong)


def test_no_gradient_reaches_the_reference():
    chosen, rejected = (torch.tensor([value], requires_grad=True) for value in (-1.0, -4.0))
    reference = tuple(torch.tensor([value], requires_grad=True) for value in (-2.0, -3.0))
    preference(chosen, rejected, reference=reference).loss.backward()
    assert chosen.grad.item() == -rejected.grad.item() < 0
    assert all(each.grad is None for each in reference)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_training_on_it_widens_the_margin(beta):
    torch.manual_seed(0)
    network = GptNetwork(GptConfig(phonemes=20, codes=17, width=16, heads=2, layers=2, dropout=0.0))
    codes = torch.randint(0, 16, (12,))
    pair = GptUtterance(phonemes=torch.randint(0, 20, (5,)), codes=codes, rejected=Corruption("repeat", 3, 6).of(codes))
    batch = pack([pair], end=16)
    with torch.no_grad():
        start = network(batch)
    reference = (start.chosen_logps, start.rejected_logps)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    margins = []
    for _ in range(6):
        output = network(batch)
        got = preference(output.chosen_logps, output.rejected_logps, beta=beta, reference=reference)
        optimizer.zero_grad()
        got.loss.backward()
        optimizer.step()
        margins.append(got.margins.item())
    assert margins == sorted(margins)
    assert margins[0] == pytest.approx(0.0, abs=1e-6)
    assert margins[-1] > 0.01
