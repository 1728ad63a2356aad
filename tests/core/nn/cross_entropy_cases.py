"""The one-pass cross-entropy against float64 and against the plain head; Triton's interpreter is chosen at import.

Run as ``python -m tests.core.nn.cross_entropy_cases [device]``; it prints one JSON line a case: its name and the
figures that were found, which the test compares with what is allowed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from tts_train.nn import kernels
from tts_train.nn.chunk_logits import row_stride
from tts_train.nn.kernels.cross_entropy import cross_entropy
from tts_train.nn.linear_cross_entropy import RowGroup, linear_cross_entropy

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COLUMNS = (1, 5, 97, 4096, 4097, 9000)
SCALE = 8.0
Case = tuple[str, dict[str, float]]


def logits(rows: int, columns: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rows at a padded distance; equal highest values, within a block and across blocks; what lies between them."""
    generator = torch.Generator().manual_seed(columns)
    memory = torch.full((rows, row_stride(columns)), 7.0, dtype=dtype)
    memory[:, :columns] = 4 * torch.randn(rows, columns, generator=generator)
    for row in range(0, rows, 2):
        memory[row, sorted({columns // 3, columns // 2, columns - 1})] = 20.0
    if columns > 5:
        memory[1, : columns // 2] = -torch.inf
    targets = torch.randint(columns // 2, columns, (rows,), generator=generator)
    memory = memory.to(device)
    return memory, memory[:, :columns], targets.to(device)


def operator(device: str) -> Iterator[Case]:
    for name, dtype in DTYPES.items():
        for columns in COLUMNS:
            memory, given, targets = logits(6, columns, dtype, device)
            exact = given.double().log_softmax(1)
            losses = -exact.gather(1, targets[:, None]).squeeze(1)
            slopes = exact.exp().scatter_add(1, targets[:, None], -torch.ones_like(exact[:, :1])) * SCALE
            before = memory.clone()
            found, predictions = cross_entropy(given, targets, SCALE, False)
            untouched = torch.equal(memory, before)
            again, same = cross_entropy(given, targets, SCALE, True)
            yield (
                f"operator {name} {columns}",
                {
                    "loss": ((found - losses).abs() / losses.abs().clamp(min=1e-2)).max().item(),
                    "slope": (given.double() - slopes).abs().max().item() / SCALE,
                    "predictions": int((predictions != before[:, :columns].double().argmax(1)).sum()),
                    "untouched": int(not untouched),
                    "outside": int((memory[:, columns:] != 7).sum()),
                    "repeated": int(not (torch.equal(found, again) and torch.equal(predictions, same))),
                },
            )
    bad = torch.zeros(2, 64, device=device)
    bad[0, 3] = torch.nan
    losses, _ = cross_entropy(bad, torch.zeros(2, dtype=torch.int64, device=device), 1.0, False)
    yield "not a number", {"seen": int(losses.isnan().tolist() != [True, False])}


def head(device: str) -> Iterator[Case]:
    for name, dtype in DTYPES.items():
        for mixed in (False, True) if name != "float32" else (False,):
            for groups in (False, True):
                for ignored in (0.3, 1.0):
                    yield (
                        f"head {name} mixed={mixed} groups={groups} ignored={ignored}",
                        _head(dtype, mixed=mixed, groups=groups, ignored=ignored, device=device),
                    )
            for frozen in (False, True):
                yield (
                    f"head {name} mixed={mixed} tokenwise frozen={frozen}",
                    _head(dtype, mixed=mixed, groups=True, ignored=0.3, device=device, tokenwise=True, frozen=frozen),
                )


def _head(
    dtype: torch.dtype,
    *,
    mixed: bool,
    groups: bool,
    ignored: float,
    device: str,
    tokenwise: bool = False,
    frozen: bool = False,
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(3)
    leaf = torch.float32 if mixed else dtype
    hidden = torch.randn(50, 16, generator=generator).to(device, leaf).requires_grad_()
    weight = torch.randn(4200, 16, generator=generator).to(device, leaf).requires_grad_(not frozen)
    free = (hidden,) if frozen else (hidden, weight)
    targets = torch.randint(0, 4200, (50,), generator=generator)
    targets[1::3] = torch.randint(3000, 4200, (17,), generator=generator)
    targets[torch.rand(50, generator=generator) < ignored] = -100
    kept = (targets != -100).nonzero().squeeze(1)
    restricted = kept % 3 == 1
    parts = [
        RowGroup(tokens=restricted.nonzero().squeeze(1).to(device), rows=((5, 6), (3000, 4200))),
        RowGroup(tokens=(~restricted).nonzero().squeeze(1).to(device), rows=((0, 4200),)),
    ]
    sides = []
    for fused in (True, False):
        with torch.autocast(device, dtype=dtype, enabled=mixed):
            made = linear_cross_entropy(
                hidden, weight, targets.to(device), kept=kept.to(device), chunk_tokens=16,
                row_groups=parts if groups else (), fused=fused, tokenwise=tokenwise,
            )  # fmt: skip
        counts = torch.linspace(-1, 1, made.count, device=device)
        loss = (made.losses * counts).sum() if tokenwise else made.loss_sum * 0.5
        with torch.autocast(device, dtype=dtype, enabled=mixed), torch.no_grad():
            seen = linear_cross_entropy(hidden, weight, targets.to(device), chunk_tokens=16, fused=fused)
        sides.append((made, torch.autograd.grad(loss, free), seen))
    (one, grads, seen), (other, wanted, also) = sides
    shares = [
        (a - b).double().abs().max() / b.double().abs().max().clamp(min=1e-9)
        for a, b in zip(grads, wanted, strict=True)
    ]
    return {
        "loss": ((one.losses - other.losses).abs() / other.losses).max().item() if one.count else 0.0,
        "validation": ((seen.losses - also.losses).abs() / also.losses).max().item() if one.count else 0.0,
        "predictions": int((one.predictions != other.predictions).sum()),
        "gradient": max(share.item() for share in shares),
        "types": int([grad.dtype for grad in grads] != [leaf] * len(free)),
        "count": abs(one.count - len(kept)),
    }


def cases(device: str) -> Iterator[Case]:
    yield from operator(device)
    yield from head(device)


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    assert kernels.fused(torch.empty(1, device=where))
    for case in cases(where):
        print(json.dumps(case))
