"""Every operator of a step, told apart by what it is for, and by a roofline how long they take on a card.

Each operator runs at the speed of products or of memory. What is assumed, beside the shares in
:mod:`tts_train.memory.cards`: a kernel takes 2 us at least; a product with a matrix whose rows are no multiple of 16
bytes takes 2.5 times as long; the host launches a kernel in 10 us, all Python above it included, and works ahead of
the card unless it waits for a value, after which the card idles 100 us; copies to host memory and back run at 20 GB/s
on the stream that computes. Data are always ready. The one host that was measured, beside an H200, needed ten to
fifteen times as long a kernel, and decided how long a step took (:data:`SLOW_LAUNCH_SECONDS`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from tts_train.memory.cards import Card
from tts_train.memory.step.traffic import Traffic, traffic

Work: TypeAlias = Literal[
    "products", "attention", "head", "norms", "element-wise", "optimiser", "copies", "recomputation"
]
"""What an operator is for. ``head`` is all that touches logits, output matrix or embedding; ``optimiser`` also what is
added into gradients that exist; ``copies`` go to host memory and back."""

KINDS_OF_WORK: tuple[Work, ...] = get_args(Work)

HOST_COPY = "host_copy"
"""Part of the name of operators that copy to host memory or back."""

# A padded vocabulary has at most so many rows more.
_PADDED_ROWS = 128
_ATTENTION = ("attention", "attn")


@dataclass(frozen=True)
class Operation:
    """One operator with its traffic, and what it was for."""

    work: Work
    traffic: Traffic


class StepLedger:
    """Counts operations while a step runs.

    Within :meth:`modules_known` it knows in which module an operator of forward runs. An operator of backward belongs
    to the forward operator whose node it runs for, by autograd's own numbers; one within a module's forward while
    backward runs is recomputation.

    Args:
        vocabulary: Rows of the output matrix; None: there is none.
    """

    def __init__(self, vocabulary: int | None = None) -> None:
        self.counts: Counter[Operation] = Counter()
        """How often each operation occurred."""
        self._vocabulary = vocabulary
        self._modules: list[nn.Module] = []
        self._norms: set[int] = set()

    def note(self, func: Any, args: Any, kwargs: Any, out: Any, *, optimizing: bool) -> None:  # noqa: ANN401
        """Count one operator that was run; ``optimizing`` says that it is the optimiser's."""
        cost = traffic(func, args, kwargs, out)
        if cost.launches or cost.waits:
            # -1 outside of any backward; there is no public question.
            backward = torch._C._current_graph_task_id() != -1
            again = backward and bool(self._modules)  # a module's forward, run by backward
            work = self._work(cost, (args, kwargs, out), backward=backward and not again, optimizing=optimizing)
            self.counts[Operation("recomputation" if again else work, cost)] += 1

    def start_over(self) -> None:
        """Forget what was counted."""
        self.counts = Counter()
        self._norms.clear()

    @contextlib.contextmanager
    def modules_known(self) -> Iterator[None]:
        """Follow which module's forward runs, within the block."""

        def enter(module: nn.Module, _: object) -> None:
            self._modules.append(module)

        def leave(module: nn.Module, *_: object) -> None:
            if self._modules and self._modules[-1] is module:
                self._modules.pop()

        # always_call: a module whose forward raises, as early-stopped recomputation does, must be left too.
        hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._modules.clear()

    def _work(self, cost: Traffic, values: Any, *, backward: bool, optimizing: bool) -> Work:  # noqa: ANN401
        if HOST_COPY in cost.name:
            return "copies"
        node: Any = torch._C._current_autograd_node() if backward else None
        if optimizing or (node is not None and node.name().endswith("AccumulateGrad")):
            return "optimiser"
        operator = cost.name.split("::")[-1]
        if any(word in operator for word in _ATTENTION):
            return "attention"
        # Told by size: who calls the product is lost in backward.
        if self._vocabulary is not None and any(map(self._has_rows, _tensors(values))):
            return "head"
        if self._is_norm(operator, node):
            return "norms"
        return "products" if cost.flops else "element-wise"

    def _is_norm(self, operator: str, node: Any) -> bool:  # noqa: ANN401 - an autograd node
        if "_norm" in operator and not any(word in operator for word in ("foreach", "vector", "weight")):
            return True
        if node is not None:
            # A backward node has the number of the forward that made it.
            return node._sequence_nr() in self._norms
        if not (self._modules and "Norm" in type(self._modules[-1]).__name__):
            return False
        # The number just given to this forward operator, by which its backward is known.
        self._norms.add(torch.autograd._get_sequence_nr() - 1)  # type: ignore[attr-defined]
        return True

    def _has_rows(self, tensor: Tensor) -> bool:
        rows = self._vocabulary
        return rows is not None and any(rows <= size < rows + _PADDED_ROWS for size in tensor.shape)


def _tensors(values: Any) -> list[Tensor]:  # noqa: ANN401
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


KERNEL_SECONDS = 2e-6
"""A kernel that does next to nothing."""
MISALIGNED_SHARE = 1 / 2.5
"""Speed of a product with a matrix whose rows are no multiple of 16 bytes, against one whose are."""
LAUNCH_SECONDS = 10e-6
"""Host time for one kernel, Python, autograd and Lightning included, on a fast host; assumed, no host was this fast."""
SLOW_LAUNCH_SECONDS = 150e-6
"""The same on the one host that was measured, 16 Xeon cores beside an H200: 100 to 170 us in steps that it decided."""
WAIT_SECONDS = 100e-6
"""How long a card idles when the host waits for a value: the wait, the copy, and until new kernels arrive."""
HOST_BUS = 20e9
"""Bytes a second between a card and pinned host memory (PCIe 4.0 x16 in practice)."""
UNCERTAINTY = 0.2
"""Share by which an estimate is shown to be uncertain; a guess until more than one card has been measured."""


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

    @property
    def slow_seconds(self) -> float:
        """The same beside a host that launches as slowly as the one that was measured."""
        return max(self.device_seconds, self.launches * SLOW_LAUNCH_SECONDS) + self.wait_seconds

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
            # Causal: half of each square of scores is never needed.
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
