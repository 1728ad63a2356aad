"""How long a step takes on a card, by a roofline: each operator at the speed of products or of memory.

What is assumed, beside the shares in :mod:`tts_train.memory.cards`: a kernel takes 2 us at least; a product with a
matrix whose rows are no multiple of 16 bytes takes 2.5 times as long; the host launches a kernel in 10 us, all Python
above it included, and works ahead of the card unless it waits for a value, after which the card idles 100 us; copies to
host memory and back run at 20 GB/s on the stream that computes. Data are always ready. Nothing of it was measured on a
card: how far off it is, is not known, and more likely too fast than too slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tts_train.memory.cards import Card
from tts_train.memory.step.ledger import KINDS_OF_WORK, Operation, Work
from tts_train.memory.step.traffic import Traffic

KERNEL_SECONDS = 2e-6
"""A kernel that does next to nothing."""
MISALIGNED_SHARE = 1 / 2.5
"""Speed of a product with a matrix whose rows are no multiple of 16 bytes, against one whose are."""
LAUNCH_SECONDS = 10e-6
"""Host time for one kernel, Python, autograd and Lightning included, on a fast host."""
WAIT_SECONDS = 100e-6
"""How long a card idles when the host waits for a value: the wait, the copy, and until new kernels arrive."""
HOST_BUS = 20e9
"""Bytes a second between a card and pinned host memory (PCIe 4.0 x16 in practice)."""
UNCERTAINTY = 0.2
"""Share by which an estimate is shown to be uncertain; a guess until a card has been measured."""


@dataclass(frozen=True)
class Estimate:
    """One optimiser step on one card."""

    device_seconds: float
    """All kernels one behind the other."""
    host_seconds: float
    """Launching them all."""
    wait_seconds: float
    """The card idle after host waits."""
    by_work: Mapping[Work, float]
    """``device_seconds`` by what the time is for."""
    by_operator: Mapping[tuple[Work, str], float]
    """The same by operator."""
    misaligned_seconds: float
    """Part of ``device_seconds`` that aligned rows would save."""
    launches: float
    """Kernels."""
    waits: float
    """Values that the host waits for."""
    bytes: float
    """Read and written."""
    flops: float
    """Operations, recomputed ones included."""
    model_flops: float
    """Operations without recomputed ones, attention's triangle above the diagonal left out."""

    @property
    def seconds(self) -> float:
        """Time of the step: the card or the host, whichever is slower, and the waits."""
        return max(self.device_seconds, self.host_seconds) + self.wait_seconds

    def utilisation(self, card: Card) -> float:
        """Return MFU: the share of the card's stated bfloat16 arithmetic, recomputation not counted."""
        return self.model_flops / self.seconds / card.half_flops


def estimate(operations: Mapping[Operation, float], card: Card, *, batches: int = 1) -> Estimate:
    """Return the time of an optimiser step of ``batches`` batches on a card.

    Args:
        operations: Those of one batch and of the optimiser's step (``Step.operations``).
        card: The card.
        batches: Batches that are accumulated.
    """
    by_work: dict[Work, float] = dict.fromkeys(KINDS_OF_WORK, 0.0)
    by_operator: dict[tuple[Work, str], float] = {}
    lost = launches = waits = moved = flops = model = 0.0
    for operation, count in operations.items():
        work, cost = operation.work, operation.traffic
        often = count * (1 if work == "optimiser" else batches)
        seconds = kernel_seconds(cost, card, copies=work == "copies")
        by_work[work] += often * seconds
        by_operator[work, cost.name] = by_operator.get((work, cost.name), 0.0) + often * seconds
        if cost.misaligned:
            lost += often * seconds * (1 - MISALIGNED_SHARE)
        launches += often * cost.launches
        waits += often * cost.waits
        moved += often * cost.bytes
        flops += often * cost.flops
        if work != "recomputation":
            model += often * cost.flops * (0.5 if work == "attention" else 1.0)
    return Estimate(
        device_seconds=sum(by_work.values()),
        host_seconds=launches * LAUNCH_SECONDS,
        wait_seconds=waits * WAIT_SECONDS,
        by_work=by_work,
        by_operator=by_operator,
        misaligned_seconds=lost,
        launches=launches,
        waits=waits,
        bytes=moved,
        flops=flops,
        model_flops=model,
    )


def kernel_seconds(cost: Traffic, card: Card, *, copies: bool = False) -> float:
    """Return the time of one call of an operator; 0 where it has no kernel."""
    if not cost.launches:
        return 0.0
    rate = card.single_product_rate if cost.single else card.product_rate
    arithmetic = cost.flops / (rate * (MISALIGNED_SHARE if cost.misaligned else 1.0))
    memory = cost.bytes / (HOST_BUS if copies else card.memory_rate)
    return max(cost.launches * KERNEL_SECONDS, arithmetic, memory)
