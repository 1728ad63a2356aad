"""ScaledAdam and the schedule beyond the reference's trajectories: state in files, clipping, missing gradients."""

from __future__ import annotations

import io

import pytest
import torch

from tests.gpt_sovits.upstream import UpstreamSchedule
from tts_train.nn.devices import planning_for
from tts_train_gpt_sovits.stages.gpt.optimizer import LOCKED_RATE, ScaledAdam, build_upstream_schedule


def parameters(seed=0):
    chance = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=chance)) for shape in ((3, 4), (4,), (3, 4), (1,), (1,))]


def run(params, optimizer, steps, first=0):
    for step in range(first, first + steps):
        chance = torch.Generator().manual_seed(step)
        for parameter in params:
            parameter.grad = parameter.detach() + 0.3 * torch.randn(parameter.shape, generator=chance)
        optimizer.step()


def test_it_goes_on_from_a_saved_state_exactly():
    whole = parameters()
    run(whole, ScaledAdam(whole, clipping_update_period=4), 11)
    params = parameters()
    optimizer = ScaledAdam(params, clipping_update_period=4)
    run(params, optimizer, 6)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = ScaledAdam(params, clipping_update_period=4)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    run(params, resumed, 5, first=6)
    assert all(torch.equal(a, b) for a, b in zip(params, whole, strict=True))


def test_it_makes_a_loss_smaller():
    params = parameters()
    optimizer = ScaledAdam(params, lr=0.02)
    losses = []
    for _ in range(300):
        loss = sum((parameter - 0.5).square().sum() for parameter in params)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_a_missing_gradient_counts_as_zeros():
    with_none, with_zeros = parameters(), parameters()
    for params, missing in ((with_none, None), (with_zeros, torch.zeros(3, 4))):
        optimizer = ScaledAdam(params)
        for _ in range(5):
            for parameter in params:
                parameter.grad = torch.ones_like(parameter)
            params[0].grad = missing
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(with_none, with_zeros, strict=True))


def test_frozen_parameters_stay():
    params = parameters()
    params[0].requires_grad_(False)
    before = params[0].clone()
    optimizer = ScaledAdam(params)
    for parameter in params[1:]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(params[0], before)
    assert not torch.equal(params[1], parameters()[1])


@pytest.mark.parametrize("clip_update", [False, True])
def test_whole_stacks_move_as_one_parameter_after_the_other(clip_update):
    """What a GPU computes, on a CPU, against what a CPU computes; sizes that must shrink and must not included."""
    moved = []
    for device in ("cuda", "cpu"):
        params = parameters()
        with torch.no_grad():
            params[0].mul_(10)  # above param_max_rms
            params[2].mul_(1e-7)  # below param_min_rms
        optimizer = ScaledAdam(params, clipping_update_period=4, clip_update=clip_update)
        with planning_for(device):
            run(params, optimizer, 13)
        moved.append((params, optimizer.state_dict()["state"]))
    (ours, own), (theirs, other) = moved
    for one, another in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-7)
    for member, state in other.items():
        assert own[member].keys() == state.keys()
        for name, value in state.items():
            got, wanted = (torch.as_tensor(each, dtype=torch.float32) for each in (own[member][name], value))
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_bad_step_takes_zeros_and_the_flag_is_taken_once(device):
    flagged, missing = parameters(), parameters()
    for params, by_flag in ((flagged, True), (missing, False)):
        optimizer = ScaledAdam(params, clipping_update_period=4)
        with planning_for(device):
            run(params, optimizer, 6)
            for parameter in params:
                parameter.grad = torch.full_like(parameter, torch.nan) if by_flag else None
            if by_flag:
                optimizer.found_inf = torch.tensor(1.0)
            optimizer.step()
            run(params, optimizer, 3, first=7)
    assert all(torch.equal(a, b) for a, b in zip(flagged, missing, strict=True))
    optimizer.found_inf = torch.tensor(0.0)
    before = missing[0].clone()
    run(missing, optimizer, 1)
    assert optimizer.found_inf is None
    assert not torch.equal(missing[0], before)


@pytest.mark.parametrize(("clip_update", "held"), [(False, False), (True, True)])
def test_only_clip_update_holds_back_a_huge_gradient(clip_update, held):
    def moved(spike):
        params = parameters()
        optimizer = ScaledAdam(params, clipping_update_period=4, clip_update=clip_update)
        run(params, optimizer, 10)
        for parameter in params:
            parameter.grad = spike * torch.ones_like(parameter)
        optimizer.step()
        first = optimizer.state[params[3]]
        return optimizer.state[params[0]]["exp_avg_sq"].max().item(), first["num_clipped"]

    square, clipped = moved(1000.0)
    assert clipped >= 1
    assert (square < 100) is held


def test_the_schedule_sets_the_rates_that_upstream_runs_at():
    params = parameters()
    optimizer = ScaledAdam(params, lr=0.01)
    schedule = build_upstream_schedule(optimizer)
    used = []
    for _ in range(5):
        used.append(optimizer.param_groups[0]["lr"])
        run(params, optimizer, 1)
        schedule.step()
    assert used == [UpstreamSchedule().effective(step) for step in range(5)] == [0.01] + [LOCKED_RATE] * 4


def test_a_resumed_schedule_stays_locked():
    params = parameters()
    optimizer = ScaledAdam(params, lr=0.01)
    schedule = build_upstream_schedule(optimizer)
    run(params, optimizer, 1)
    schedule.step()
    resumed = ScaledAdam(parameters(), lr=0.01)
    again = build_upstream_schedule(resumed)
    resumed.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    run(resumed.param_groups[0]["params"], resumed, 1)
    again.step()
    assert resumed.param_groups[0]["lr"] == LOCKED_RATE
