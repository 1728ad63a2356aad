"""Tensors of a checkpoint as they lie in its files, read whole or only the rows that a process holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from tts_train.errors import DataError


class StoredTensor:
    """A tensor in safetensors files, read when asked for: whole, or some of its rows.

    Args:
        name: its name in each of the files.
        files: the opened files that hold it, one below the other.
        order: the order of dimensions it was stored in, if another.
    """

    def __init__(self, name: str, files: Sequence[Any], order: Sequence[int] | None = None) -> None:
        self._name = name
        self._files = files
        self._order = order

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, as it was saved."""
        shapes = [file.get_slice(self._name).get_shape() for file in self._files]
        stored = [sum(shape[0] for shape in shapes), *shapes[0][1:]] if len(shapes) > 1 else list(shapes[0])
        return tuple(stored if self._order is None else (stored[i] for i in _inverse(self._order)))

    def whole(self) -> torch.Tensor:
        """Return all of it, in memory of its own."""
        # A copy: aligned, and it stays whatever becomes of the file.
        read = [file.get_tensor(self._name) for file in self._files]
        tensor = torch.cat(read) if len(read) > 1 else read[0].clone()
        return tensor if self._order is None else tensor.permute(_inverse(self._order))

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
        rank: this process among those that read it.
        world_size: how many those are.
    """

    def __init__(self, directory: Path, *, rank: int = 0, world_size: int = 1) -> None:
        self._directory = directory
        self._rank, self._world_size = rank, world_size
        self._files: dict[str, Any] = {}
        self._read: dict[tuple[str, ...], torch.Tensor] = {}

    def __call__(self, reference: dict[str, Any]) -> torch.Tensor:
        """Return the tensor that ``reference`` names, on the CPU, in the layout it was saved with.

        Raises:
            DataError: if it is one that belongs to each process of another number of them.
        """
        key = (reference["$tensor"], *self._where(reference))
        if key not in self._read:
            self._read[key] = self._stored(reference, order=None).whole()
        order = reference.get("order")
        return self._read[key] if order is None else self._read[key].permute(_inverse(order))

    def later(self, reference: dict[str, Any]) -> StoredTensor | torch.Tensor:
        """Return the tensor that ``reference`` names to be read when it is needed; one of this process's own now."""
        return self(reference) if "each" in reference else self._stored(reference, order=reference.get("order"))

    def _stored(self, reference: dict[str, Any], *, order: list[int] | None) -> StoredTensor:
        return StoredTensor(reference["$tensor"], [self._open(name) for name in self._where(reference)], order)

    def _where(self, reference: dict[str, Any]) -> list[str]:
        if "each" in reference:
            if len(reference["each"]) != self._world_size:
                raise DataError(
                    f"{self._directory} holds optimiser states that each of {len(reference['each'])} processes keeps "
                    f"in a form of its own, which {self._world_size} cannot share: continue with as many processes."
                )
            return [reference["each"][self._rank]]
        return list(reference["pieces"]) if "pieces" in reference else [reference["file"]]

    def _open(self, name: str) -> Any:  # noqa: ANN401 - safetensors is not typed
        if name not in self._files:
            self._files[name] = safe_open(self._directory / name, framework="pt", device="cpu")
        return self._files[name]


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
