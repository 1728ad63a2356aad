"""Tensors of a checkpoint as they lie in its files, read whole or only the rows that a process holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open


class StoredTensor:
    """A tensor in safetensors files, read when asked for: whole, or some of its rows.

    Args:
        name: its name in each of the files.
        files: the opened files that hold it, one below the other.
        order: the order of dimensions it was stored in, if another.
        by_rows: whether its rows were divided over processes when it was saved.
    """

    def __init__(
        self, name: str, files: Sequence[Any], *, order: Sequence[int] | None = None, by_rows: bool = False
    ) -> None:
        self.by_rows = by_rows
        self._name = name
        self._files = files
        self._order = order

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, as it was saved."""
        # From the header of each file: no numbers are read for it.
        shapes = [file.get_slice(self._name).get_shape() for file in self._files]
        # Shards lie one below the other: only the first dimension was divided.
        stored = [sum(shape[0] for shape in shapes), *shapes[0][1:]] if len(shapes) > 1 else list(shapes[0])
        return tuple(stored if self._order is None else (stored[i] for i in _inverse(self._order)))

    def whole(self) -> torch.Tensor:
        """Return all of it, in memory of its own."""
        # A copy: aligned, and it stays whatever becomes of the file.
        read = [file.get_tensor(self._name) for file in self._files]
        tensor = torch.cat(read) if len(read) > 1 else read[0].clone()
        return tensor if self._order is None else tensor.permute(_inverse(self._order))

    def as_mapped(self) -> torch.Tensor:
        """Return all of it, in mapped memory where one file holds it."""
        if len(self._files) > 1 or self._order is not None:
            return self.whole()
        mapped: torch.Tensor = self._files[0].get_tensor(self._name)
        return mapped

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return rows ``start`` to below ``stop`` of its first dimension; no others are read."""
        if self._order is not None:
            return self.whole()[start:stop]
        read, first = [], 0
        for part in (file.get_slice(self._name) for file in self._files):
            count = part.get_shape()[0]
            read.append(part[min(max(start - first, 0), count) : min(max(stop - first, 0), count)])
            first += count
        return torch.cat(read) if len(read) > 1 else read[0]


class TensorSource:
    """Finds the tensors of one checkpoint by reference; each is read once, so shared ones are shared again.

    Args:
        directory: the checkpoint.
        mapped: names of files whose tensors stay where the system maps them, instead of getting memory of their own.
    """

    def __init__(self, directory: Path, *, mapped: Sequence[str] = ()) -> None:
        self._directory = directory
        self._mapped = frozenset(mapped)
        self._files: dict[str, Any] = {}
        self._read: dict[tuple[str, ...], torch.Tensor] = {}

    def __call__(self, reference: dict[str, Any]) -> torch.Tensor:
        """Return the tensor that ``reference`` names, on the CPU, in the layout it was saved with."""
        key = (reference["$tensor"], *_files_of(reference))
        if key not in self._read:
            # Shared memory is cached as it lies, since two names may have it in different orders.
            stored = self.later({**reference, "order": None})
            self._read[key] = stored.as_mapped() if self._mapped.issuperset(_files_of(reference)) else stored.whole()
        order = reference.get("order")
        return self._read[key] if order is None else self._read[key].permute(_inverse(order))

    def later(self, reference: dict[str, Any]) -> StoredTensor:
        """Return the tensor that ``reference`` names, to be read when it is needed."""
        files = [self._open(name) for name in _files_of(reference)]
        by_rows = reference.get("by_rows", False)
        return StoredTensor(reference["$tensor"], files, order=reference.get("order"), by_rows=by_rows)

    def _open(self, name: str) -> Any:  # noqa: ANN401 - safetensors is not typed
        if name not in self._files:
            self._files[name] = safe_open(self._directory / name, framework="pt", device="cpu")
        return self._files[name]


def own_states(optimizer: torch.optim.Optimizer) -> None:
    """Give memory of their own to states on the CPU that an optimiser has taken over as they were mapped."""
    owned: dict[tuple[Any, ...], torch.Tensor] = {}
    for state in optimizer.state.values():
        for name, value in list(state.items()) if isinstance(state, dict) else ():
            if isinstance(value, torch.Tensor) and value.device.type == "cpu":
                # A state that several parameters share stays one.
                key = (value.data_ptr(), value.dtype, value.shape, value.stride())
                state[name] = owned.setdefault(key, value.clone())


def _files_of(reference: dict[str, Any]) -> list[str]:
    return list(reference["pieces"]) if "pieces" in reference else [reference["file"]]


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
