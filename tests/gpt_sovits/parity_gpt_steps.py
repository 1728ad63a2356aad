"""The figures of the optimiser, the learning rate and the sampler of the text-to-semantic stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.gpt_sovits.filling import hash_u
from tests.gpt_sovits.parity_gpt_figures import equal
from tests.gpt_sovits.upstream import UpstreamSchedule, share
from tts_train_gpt_sovits.stages.gpt.batches import UpstreamSampler
from tts_train_gpt_sovits.stages.gpt.optimizer import ScaledAdam, build_upstream_schedule

_RATE = 1e-12
_TRAJECTORY = {"gradient", "lr", "clipping_update_period", "shapes", "trajectory", "state_keys"}
RATES: dict[str, Callable[[UpstreamSchedule, int], float]] = {
    "effective_lr_used_by_optimizer_step_k": UpstreamSchedule.effective,
    "get_last_lr_before_scheduler_step_k": UpstreamSchedule.reported,
    "nominal_warmup_cosine_if_not_overridden": UpstreamSchedule.nominal,
}


def trajectory(where: str, salt: str, dtype: torch.dtype, expected: dict[str, Any]) -> Iterator[Figure]:
    """Step parameters by a given gradient; the figures of each step and the state at the end."""
    steps = len(expected["trajectory"])
    shapes = {name: tuple(shape) for name, shape in expected["shapes"]}

    def made(kind: str, name: str) -> Tensor:
        drawn = torch.from_numpy(hash_u(f"{salt}sa.{kind}.{name}", math.prod(shapes[name])))
        return drawn.view(shapes[name]).to(dtype)

    parameters = {name: torch.nn.Parameter(made("p", name)) for name in shapes}
    optimizer = ScaledAdam(parameters.values(), clipping_update_period=expected["clipping_update_period"])
    schedule = build_upstream_schedule(optimizer)
    for k, entry in enumerate(expected["trajectory"]):
        loud = 20.0 if k == steps // 2 else 1.0
        for i, (name, parameter) in enumerate(parameters.items()):
            wave = loud * (1 + 0.25 * math.sin(k + i))
            parameter.grad = (parameter.detach() - made("t", name)) * wave
        optimizer.step()
        schedule.step()
        got = {
            "step": k,
            "amp": loud,
            "params": {name: parameter.flatten().tolist() for name, parameter in parameters.items()},
            "sum": {name: parameter.detach().double().sum().item() for name, parameter in parameters.items()},
        }
        # Values are of the order of 1.
        given = {name: value for name, value in entry.items() if value is not None}
        wanted = {name: value for name, value in got.items() if entry.get(name) is not None}
        yield from equal(f"{where}[{k}]", given, wanted, 1e-6 if dtype == torch.float64 else 1e-5)
    numbers = {id(parameter): str(i) for i, parameter in enumerate(parameters.values())}
    states = {numbers[id(parameter)]: state for parameter, state in optimizer.state.items()}
    for number, state in expected["state_keys"].items():
        have = {
            key: list(value.shape) if isinstance(value, Tensor) else value
            for key, value in states.get(number, {}).items()
        }
        yield from equal(f"{where}.state[{number}]", dict(sorted(state.items())), dict(sorted(have.items())), 1e-5)
    yield Figure(f"{where}.state", sorted(expected["state_keys"]), sorted(states))
    for name in set(expected) - _TRAJECTORY:
        yield unknown(f"{where}.{name}", expected[name])


def samplers(expected: dict[str, Any]) -> Iterator[Figure]:
    seconds, size = expected["lengths_sec"], expected["batch_size"]
    yield Figure("s1.buckets", expected["buckets"], UpstreamSampler(seconds, size).buckets)
    for number, case in enumerate(expected["cases"]):
        rows = share(seconds, size, replicas=case["replicas"], rank=case["rank"], epoch=case["epoch"])
        yield Figure(f"s1.cases[{number}].indices", case["indices"], rows)
        for name in set(case) - {"replicas", "rank", "epoch", "indices"}:
            yield unknown(f"s1.cases[{number}].{name}", case[name])
    for name in set(expected) - {"lengths_sec", "batch_size", "buckets", "cases"}:
        yield unknown(f"s1.{name}", expected[name])


def rates(config: dict[str, float], name: str, expected: dict[str, float]) -> Iterator[Figure]:
    fields = ("lr", "lr_init", "lr_end", "warmup_steps", "decay_steps")
    schedule = UpstreamSchedule(**{field: config[field] for field in fields})  # type: ignore[arg-type]
    if config.get("optimizer_ctor_lr", schedule.lr) != schedule.lr:
        yield Figure(f"{name}.optimizer_ctor_lr", config["optimizer_ctor_lr"], schedule.lr)
    for step, rate in expected.items():
        yield Figure(f"{name}[{step}]", rate, RATES[name](schedule, int(step)), tolerance=_RATE)
