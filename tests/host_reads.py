"""Values for which a host would wait, counted in a training step that runs on a CPU.

On a CPU nothing waits, so what would lie on a card is followed from where it comes: parameters, buffers and batches are
marked, and so is whatever is computed from a marked tensor. Counted are

* a value of a marked tensor that Python asks for (``item``, ``bool``, ``tolist``, ``numpy``, ``cpu`` ...);
* an operator whose result has a size that depends on marked values (``nonzero``, indexing with a mask, ``unique`` ...);
* a copy from the host to where a marked tensor lies, unless it is ``non_blocking``: ``copy_``, ``new_tensor``,
  ``torch.tensor`` with a device, ``to`` a device.

Not counted is what is made on the host and stays there, such as the step of an optimiser that is not fused, and a value
that was copied without blocking in an earlier step: by then it lies ready.

Not seen, since a CPU's tensors do not show where they would lie: ``to(torch.device("cpu"))`` of a marked tensor (the
string is seen), ``host.copy_(marked)``, an index on the host, and what fused kernels do, in whose place plain PyTorch
runs. Plans count the waits of those on the shapes of a card.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_VALUE = {_aten._local_scalar_dense, _aten.is_nonzero, _aten.equal, _aten.allclose}
_SIZED = {
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique,
    _aten._unique2,
    _aten.unique_dim,
    _aten.unique_consecutive,
    _aten.unique_dim_consecutive,
    _aten.bincount,
}
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_, _aten._unsafe_index}
_PLACES = tuple(str(Path(torch.__file__).parent.joinpath(part)) for part in ("utils/_python_dispatch.py", "_ops.py"))
_METHODS = ("tolist", "numpy", "__array__", "__repr__")
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Read:
    """One wait."""

    step: int
    """The batch in which it was."""
    what: str
    """Operator or method."""
    site: str
    """File and line that asked, the innermost outside of torch."""
    stack: str
    """Where that was called from."""

    def __str__(self) -> str:
        return f"batch {self.step}: {self.what} at {self.site}\n{self.stack}"


class HostReads(TorchDispatchMode):
    """Within the block, reads of marked tensors are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.step = -1
        """The batch that is trained on; -1 before the first."""
        self.reads: list[Read] = []
        self._marked: dict[int, StorageWeakRef] = {}
        self._landed: dict[int, tuple[StorageWeakRef, int]] = {}
        self._patches = contextlib.ExitStack()

    def mark(self, values: object) -> None:
        """Say that these tensors lie on the card, and whatever is computed from them."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                self._note(tensor)

    def marked(self, tensor: Tensor) -> bool:
        """Tell whether a tensor lies on the card."""
        key = _key(tensor)
        found = None if key is None else self._marked.get(key)
        return found is not None and not found.expired()

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Count nothing within the block."""
        before = len(self.reads)
        try:
            yield
        finally:
            del self.reads[before:]

    def __enter__(self) -> HostReads:
        self._patch()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_card = [tensor for tensor in given if self.marked(tensor)]
        packet = getattr(func, "overloadpacket", func)
        if on_card and self._waits(packet, args, kwargs):
            self._count(str(packet))
        elif packet is _aten.copy_ and on_card and not (_does_not_block(args, kwargs) or self.marked(args[1])):
            self._count("copy_ from the host")
        results = func(*args, **kwargs)
        if on_card:
            landing = packet is _aten.copy_ and _does_not_block(args, kwargs) and not self.marked(args[0])
            if landing:
                self._land(args[0])
            else:
                self.mark(results)
                self.mark(_written(func, args, kwargs))
        return results

    def _waits(self, packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if packet in _VALUE or packet in _SIZED:
            return True
        if packet is _aten.repeat_interleave:
            return kwargs.get("output_size") is None and (len(args) == 1 or isinstance(args[1], Tensor))
        if packet in _INDEXED:
            masks = [i for i in args[1] if isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)]
            filled = len(args) > 2 and args[2].numel() == 1  # becomes masked_fill
            return any(self.marked(mask) for mask in masks) and not filled
        return False

    def _note(self, tensor: Tensor) -> None:
        key = _key(tensor)
        if key is not None:
            self._marked[key] = StorageWeakRef(tensor.untyped_storage())
            self._landed.pop(key, None)
        if len(self._marked) > 200_000:
            self._marked = {key: one for key, one in self._marked.items() if not one.expired()}

    def _land(self, tensor: Tensor) -> None:
        key = _key(tensor)
        if key is not None:
            self._marked.pop(key, None)
            self._landed[key] = (StorageWeakRef(tensor.untyped_storage()), self.step)

    def _landed_now(self, tensor: Tensor) -> bool:
        key = _key(tensor)
        found = None if key is None else self._landed.get(key)
        return found is not None and not found[0].expired() and found[1] == self.step

    def _count(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack(sys._getframe(1)) if f.filename not in (__file__, *_PLACES)]
        outside = [frame for frame in frames if not frame.filename.startswith(_TORCH)] or frames
        site = f"{_short(outside[-1].filename)}:{outside[-1].lineno}"
        called = [f"    {_short(frame.filename)}:{frame.lineno} {frame.line}" for frame in outside[-12:]]
        self.reads.append(Read(self.step, what, site, "\n".join(called)))

    def _patch(self) -> None:
        """Watch what never reaches a dispatch mode where the tensor lies on the CPU already."""
        reads = self
        for name in _METHODS:
            original = getattr(Tensor, name)

            def method(tensor: Tensor, *args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
                if reads.marked(tensor) or reads._landed_now(tensor):
                    reads._count(_name)
                with reads.uncounted():
                    return _original(tensor, *args, **kwargs)

            self._replace(Tensor, name, method)
        for name in ("item", "__bool__", "__float__", "__int__", "__index__"):
            original = getattr(Tensor, name)

            def scalar(tensor: Tensor, _name: str = name, _original: Any = original) -> Any:
                if reads._landed_now(tensor):  # marked ones are seen as operators
                    reads._count(f"{_name} of a copy that was made in the same batch")
                return _original(tensor)

            self._replace(Tensor, name, scalar)
        self._patch_copies()

    def _patch_copies(self) -> None:
        reads = self
        to, cpu, new_tensor, tensor_of, as_tensor = (
            Tensor.to, Tensor.cpu, Tensor.new_tensor, torch.tensor, torch.as_tensor,
        )  # fmt: skip

        def to_host(tensor: Tensor, *, blocks: bool, what: str) -> Tensor:
            with reads.uncounted():
                copy = tensor.detach().clone()
            reads._land(copy)
            if blocks:
                reads._count(what)
                reads._landed.pop(_key(copy), None)
            return copy

        def patched_to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            goes = [a for a in (*args, kwargs.get("device")) if isinstance(a, str)]
            if reads.marked(tensor) and goes and torch.device(goes[0]).type == "cpu":
                return to_host(tensor, blocks=not kwargs.get("non_blocking"), what="to('cpu')")
            to_card = any(isinstance(a, torch.device) for a in (*args, kwargs.get("device")))
            if to_card and not reads.marked(tensor):
                if not (kwargs.get("non_blocking") or _by_lightning(sys._getframe(1))):
                    reads._count("to a device")
                copy = to(tensor, *args, **kwargs).clone()
                reads.mark(copy)
                return copy
            return to(tensor, *args, **kwargs)

        def patched_cpu(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return to_host(tensor, blocks=True, what="cpu") if reads.marked(tensor) else cpu(tensor, *args, **kwargs)

        def patched_new_tensor(tensor: Tensor, data: Any, **kwargs: Any) -> Tensor:
            if reads.marked(tensor) and str(kwargs.get("device")) != "cpu":
                reads._count("new_tensor")
            return new_tensor(tensor, data, **kwargs)

        def made(original: Any, name: str) -> Any:
            def patched(data: Any, *args: Any, **kwargs: Any) -> Tensor:
                on_host = not isinstance(data, Tensor) or not reads.marked(data)
                if on_host and isinstance(kwargs.get("device"), torch.device):  # a string names the host on purpose
                    reads._count(f"torch.{name} with a device")
                result: Tensor = original(data, *args, **kwargs)
                return result

            return patched

        self._replace(Tensor, "to", patched_to)
        self._replace(Tensor, "cpu", patched_cpu)
        self._replace(Tensor, "new_tensor", patched_new_tensor)
        self._replace(torch, "tensor", made(tensor_of, "tensor"))
        self._replace(torch, "as_tensor", made(as_tensor, "as_tensor"))

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        had, original = name in vars(owner), getattr(owner, name)
        setattr(owner, name, value)
        self._patches.callback(setattr, owner, name, original) if had else self._patches.callback(delattr, owner, name)


def _by_lightning(frame: FrameType) -> bool:
    """Tell whether Lightning moves a batch, which it does without blocking where the device is no CPU."""
    return frame.f_code.co_filename.endswith("lightning/fabric/utilities/apply_func.py")


def _does_not_block(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments that an operator writes into."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        return []
    named = [*zip((a for a in schema.arguments if not a.kwarg_only), args, strict=False)]
    named += [(a, kwargs[a.name]) for a in schema.arguments if a.name in kwargs]
    return [value for argument, value in named if argument.alias_info is not None and argument.alias_info.is_write]


def _key(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def _short(filename: str) -> str:
    for part in ("/site-packages/", "/core/", "/plugins/"):
        if part in filename:
            return filename.rpartition(part)[2]
    return filename
