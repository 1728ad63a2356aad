"""Optimiser states here beside torchao's, on a CPU: ``python benchmarks/optimizers.py --name DATE-optimizers``.

A small network learns a fixed regression. Compared with float32 AdamW: the distance of the weights after so many steps,
the bytes of the states, and whether a run that was saved and loaded half way has the same bits. torchao compiles its
step for each shape, so the first step's time is told apart. Its `CPUOffloadOptimizer` needs a card and is not run.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tts_train.optim import OptimizerOptions
from tts_train.optim.build import build_optimizer

RESULTS = Path(__file__).parent / "results"
WIDTHS = (64, 512, 512, 100)
"""The last matrix has 51,200 elements and its bias 100: not all shapes are whole blocks of 256."""
RATE = 1e-3


def ours(**options: object) -> Callable[[nn.Module], Optimizer]:
    return lambda module: build_optimizer(module, OptimizerOptions(lr=RATE, **options))


def torchao(stochastic: bool) -> Callable[[nn.Module], Optimizer]:
    from torchao.optim import AdamW8bit

    return lambda module: AdamW8bit(module.parameters(), lr=RATE, weight_decay=0.0, bf16_stochastic_round=stochastic)


def sides() -> Iterator[tuple[str, torch.dtype, Callable[[nn.Module], Optimizer]]]:
    yield "float32, adamw", torch.float32, ours()
    yield "float32, tts-train adamw8bit", torch.float32, ours(name="adamw8bit")
    yield "float32, torchao AdamW8bit", torch.float32, torchao(False)
    yield "bfloat16, adamw, nearest", torch.bfloat16, ours()
    yield "bfloat16, tts-train adamw8bit, stochastic", torch.bfloat16, ours(name="adamw8bit", rounding="stochastic")
    yield "bfloat16, torchao AdamW8bit, stochastic", torch.bfloat16, torchao(True)


def network(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [part for one, other in pairwise(WIDTHS) for part in (nn.Linear(one, other), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).to(dtype)


def step(module: nn.Module, optimizer: Optimizer, number: int) -> float:
    draw = torch.Generator().manual_seed(number)
    inputs = torch.randn(32, WIDTHS[0], generator=draw)
    wanted = torch.sin(3 * inputs[:, :1] + torch.arange(WIDTHS[-1]) / 10)
    dtype = next(module.parameters()).dtype
    loss = (module(inputs.to(dtype)).float() - wanted).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def state_bytes(optimizer: Optimizer) -> int:
    def of(value: object) -> int:
        parts = getattr(value, "tensor_attrs", None)
        if parts is not None:
            return sum(getattr(value, name).nbytes for name in parts)
        return value.nbytes if isinstance(value, Tensor) and value.numel() > 1 else 0

    return sum(of(value) for state in optimizer.state_dict()["state"].values() for value in state.values())


def continued(module: nn.Module, optimizer: Optimizer, make: Callable[[nn.Module], Optimizer], steps: int) -> bool:
    """Whether as many steps more have the same bits with a copy that is loaded from a saved state.

    The seed of all random numbers before is another one, as torch's state of them is not saved here.
    """
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    other = copy.deepcopy(module)
    loaded = make(other)
    loaded.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    for seed, (each, by) in enumerate(((module, optimizer), (other, loaded))):
        torch.manual_seed(seed)
        for number in range(steps):
            step(each, by, 10_000 + number)
    return all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def flat(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().float().flatten() for parameter in module.parameters()])


def measure(steps: int) -> list[dict]:
    rows: list[dict] = []
    reference = start = None
    for name, dtype, make in sides():
        module = network(dtype)
        start = flat(module) if start is None else start
        optimizer = make(module)
        began = time.perf_counter()
        step(module, optimizer, 0)
        first = time.perf_counter() - began
        began = time.perf_counter()
        losses = [step(module, optimizer, number) for number in range(1, steps)]
        weights = flat(module)
        reference = weights if reference is None else reference
        rows.append(
            {
                "side": name,
                "loss, last 50": round(sum(losses[-50:]) / 50, 5),
                "distance / way": round(float((weights - reference).norm() / (reference - start).norm()), 4),
                "bytes of state": state_bytes(optimizer),
                "first step s": round(first, 2),
                "step ms": round((time.perf_counter() - began) / (steps - 1) * 1e3, 2),
                "continues exactly": continued(module, optimizer, make, 10),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="optimizers")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    rows = measure(options.steps)
    columns = list(rows[0])
    table = [
        columns,
        ["---"] * len(columns),
        *([f"{value:,}" if type(value) is int else str(value) for value in row.values()] for row in rows),
    ]
    (RESULTS / f"{options.name}.md").write_text(
        "".join(f"| {' | '.join(line)} |\n" for line in table), encoding="utf-8"
    )
    (RESULTS / f"{options.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
