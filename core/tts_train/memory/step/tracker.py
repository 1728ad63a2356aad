"""Counts the bytes of every live tensor while a step runs, real or fake, and has its operators counted."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tts_train.memory.step.fused import varlen_working_bytes
from tts_train.memory.step.gradients import GradientSums
from tts_train.memory.step.ledger import StepLedger
from tts_train.memory.step.shapes import Shapes
from tts_train.nn.chunk_logits import row_stride

Kind: TypeAlias = Literal["weights", "gradients", "optimizer", "activations", "logits", "other"]
"""What a tensor is for."""

KINDS: tuple[Kind, ...] = get_args(Kind)
LASTING: tuple[Kind, ...] = ("weights", "gradients", "optimizer")
"""What is divided over processes; the rest lives for a moment."""

# Bytes that a CUDA allocation is rounded up to.
_BLOCK = 512
_aten = torch.ops.aten
_MAKERS = {_aten.empty, _aten.zeros, _aten.ones, _aten.full, _aten.rand, _aten.randn, _aten.empty_strided}
# Elements, from which on a made tensor is taken for states or noise rather than for a mask.
_LARGE = 1 << 18
# Types of lengths, masks and positions, whose values a step may need.
_REAL = (torch.bool, torch.int16, torch.int32, torch.int64)


class PeakTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every tensor's storage from its first appearance to its release, and keeps the highest sum.

    A value that a fake tensor cannot have (``.item()``) is taken as 1: a loss that is finite, a scale that changes
    nothing.

    Args:
        shapes: What fakes the step's tensors.
        share: Part of weights, gradients and states that one process of several keeps; all else it has whole.
        vocabulary: Rows of the output matrix; other tensors with that many rows or columns are logits. None: none are.
    """

    def __init__(self, shapes: Shapes, *, share: float = 1.0, vocabulary: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shapes = shapes
        self._sums = GradientSums(shapes)
        self._shares = {kind: share if kind in LASTING else 1.0 for kind in KINDS}
        self.kind: Kind = "other"
        """What tensors that appear from now on are for."""
        self.peak_bytes = 0
        """Highest sum so far."""
        self.at_peak: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        """The sum by kind at that moment."""
        self.ledger = StepLedger(vocabulary)
        """Every operator so far."""
        self._now: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._total = 0
        self._live: dict[int, tuple[Kind, int, weakref.ref[Any]]] = {}
        self._vocabulary = vocabulary
        self._matrices: set[tuple[tuple[int, ...], torch.dtype]] = set()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what the operator returns
        """Run one operator and add what it made."""
        kwargs = kwargs or {}
        # Otherwise each sum would have memory of its own, which a run does not have.
        if self._sums.in_place(func, args, kwargs):
            self._note(torch.ops.aten.add_.Tensor, args, kwargs, args[0])
            return args[0] if isinstance(args[0], FakeTensor) else args[0].add_(args[1])
        fake = any(issubclass(kind, FakeTensor) for kind in types) or _is_large(func, args, kwargs)
        if fake and _changes_a_real_one(func, args):
            return args[0]  # a fake of it would have memory of its own
        try:
            out = self._shapes.run(func, types, args, kwargs) if fake else func(*args, **kwargs)
        except DataDependentOutputException:
            # Lightning reads whether a loss is finite, and clipping reads a norm; a plan must go on.
            value = _assumed(func, args)
            self._note(func, args, kwargs, value)
            return value
        for value in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(value, Tensor):
                self.add(value)
        # A kernel's own memory is there while its inputs and outputs are.
        self._see_peak(varlen_working_bytes(func, args))
        self._note(func, args, kwargs, out)
        return out

    def start_over(self) -> None:
        """Forget the peak so far, not what is live."""
        self.peak_bytes, self.at_peak = self._total, self._shared()

    def add(self, tensor: Tensor, kind: Kind | None = None) -> None:
        """Count a tensor's storage, once; with ``kind``, also say anew what one that is counted is for."""
        storage = tensor.untyped_storage()
        # By memory, not by tensor: views share it, and a view may outlive what it shows.
        key = storage._cdata
        known = self._live.get(key)
        if known is not None:
            if kind is not None and kind != known[0]:
                self._live[key] = (kind, *known[1:])
                self._now[known[0]] -= known[1]
                self._now[kind] += known[1]
                self._total += int(known[1] * self._shares[kind]) - int(known[1] * self._shares[known[0]])
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        kind = kind or self._kind_of(tensor)
        # Released when the last tensor on it goes, in the order in which Python lets go, as on a card.
        self._live[key] = (kind, size, weakref.ref(storage, lambda _: self._drop(key)))
        self._now[kind] += size
        self._total += int(size * self._shares[kind])
        self._see_peak()

    def add_weights(self, tensors: Iterable[Tensor]) -> None:
        """Count parameters and buffers."""
        for tensor in tensors:
            self.add(tensor, "weights")
            if tensor.ndim == 2:
                self._matrices.add((tuple(tensor.shape), tensor.dtype))

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:  # noqa: ANN401
        self.ledger.note(func, args, kwargs, out, optimizing=self.kind == "optimizer")

    def _see_peak(self, working: int = 0) -> None:
        if self._total + working > self.peak_bytes:
            self.peak_bytes, self.at_peak = self._total + working, self._shared()
            self.at_peak["activations"] += working

    def _shared(self) -> dict[Kind, int]:
        return {kind: int(size * self._shares[kind]) for kind, size in self._now.items()}

    def _drop(self, key: int) -> None:
        kind, size, _ = self._live.pop(key)
        self._now[kind] -= size
        self._total -= int(size * self._shares[kind])

    def _kind_of(self, tensor: Tensor) -> Kind:
        rows = self._vocabulary
        if rows is None or self.kind != "activations" or not tensor.is_floating_point():
            return self.kind
        if (tuple(tensor.shape), tensor.dtype) in self._matrices:
            # The one activation that looks like a weight.
            return "gradients" if rows in tensor.shape else self.kind  # the chunked head makes one in forward
        whole = any(tensor.numel() % width == 0 for width in (rows, row_stride(rows)))
        flat = tensor.ndim == 1 and tensor.numel() > rows and whole
        return "logits" if flat or rows in tensor.shape else self.kind


def _changes_a_real_one(func: Any, args: tuple[Any, ...]) -> bool:  # noqa: ANN401
    """Tell whether a fake tensor works in place on a real one, such as a mask made from integers."""
    if not args or not isinstance(args[0], Tensor) or isinstance(args[0], FakeTensor):
        return False
    return str(func._schema.name).endswith("_")


def _is_large(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ANN401
    """Tell whether a tensor made from nothing is to be a fake: an optimiser's states, not a mask or a position."""
    if getattr(func, "_overloadpacket", None) not in _MAKERS or kwargs.get("dtype") in _REAL:
        return False
    return int(math.prod(args[0])) >= _LARGE


def _assumed(func: Any, args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    if func is not torch.ops.aten._local_scalar_dense.default:
        raise DataDependentOutputException(func)
    dtype = args[0].dtype
    return True if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1
