"""Every operator of a step, told apart by what it is for; what they take on a card is in :mod:`.roofline`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from tts_train.memory.step.traffic import Traffic, traffic

Work: TypeAlias = Literal[
    "products", "attention", "head", "norms", "element-wise", "optimiser", "copies", "recomputation"
]
"""What an operator is for. ``head`` is all that touches logits, output matrix or embedding; ``optimiser`` also what is
added into gradients that exist; ``copies`` go to host memory and back."""

KINDS_OF_WORK: tuple[Work, ...] = get_args(Work)

HOST_COPY = "host_copy"
"""Part of the name of operators that copy to host memory or back."""

_PADDED_ROWS = 128
"""A padded vocabulary has at most so many rows more."""
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
        if self._vocabulary is not None and any(map(self._has_rows, _tensors(values))):
            return "head"
        if self._is_norm(operator, node):
            return "norms"
        return "products" if cost.flops else "element-wise"

    def _is_norm(self, operator: str, node: Any) -> bool:  # noqa: ANN401 - an autograd node
        if "_norm" in operator and not any(word in operator for word in ("foreach", "vector", "weight")):
            return True
        if node is not None:
            return node._sequence_nr() in self._norms
        if not (self._modules and "Norm" in type(self._modules[-1]).__name__):
            return False
        self._norms.add(torch.autograd._get_sequence_nr() - 1)  # type: ignore[attr-defined]
        return True

    def _has_rows(self, tensor: Tensor) -> bool:
        rows = self._vocabulary
        return rows is not None and any(rows <= size < rows + _PADDED_ROWS for size in tensor.shape)


def _tensors(values: Any) -> list[Tensor]:  # noqa: ANN401
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
