"""What a foreign file says of its size and its tensors, checked before any memory is taken for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from tts_train.errors import DataError, UnsafeFileError

_ADVICE = "Nothing in it was run. Get the file again from whoever made it, or use one from another source."


@dataclass(frozen=True)
class WeightsLimits:
    """Bounds on what is believed before tensors are read; training files of a few thousand tensors stay far below."""

    pickle_bytes: int = 16 * 2**20
    """Largest pickle inside a file, in bytes."""
    opcodes: int = 250_000
    """Most instructions of one pickle; a tensor takes about 30."""
    nodes: int = 250_000
    """Most values of the resulting tree, shared ones counted each time they are met."""
    depth: int = 64
    """Most levels of dicts, lists and tuples inside each other."""
    produced: int = 20 * 2**20
    """Most bytes that calls in a pickle may make out of memorised values."""
    directory_bytes: int = 4 * 2**20
    """Most bytes that reading an archive's directory may take."""
    members: int = 20_000
    """Most members of an archive."""
    header_bytes: int = 8 * 2**20
    """Largest JSON header of a safetensors file, in bytes."""


LIMITS = WeightsLimits()
"""Generous for weights, tight for everything else."""


def refuse(path: Path, why: str) -> UnsafeFileError:
    """Return the error (exit 3) that says why the contents of a file are not read."""
    return UnsafeFileError(f"{path} is refused: {why}. {_ADVICE}")


def check_regular(path: Path) -> None:
    """Raise DataError unless ``path`` is a regular file; a pipe or a device would hang or never end."""
    if not path.exists():
        raise DataError(f"There is no file {path}.")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Give the path of a weights file.")


ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes an element takes, by the name that torch gives the type."""

Tree: TypeAlias = Any
"""What a file holds: dicts, lists, tuples, text, bytes, numbers, None, and tensors or claims of them."""

_MAX_AXES = 16
_MAX_LENGTH = 2**40
_KEY = re.compile(r"\d{1,20}")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|npu|hpu|privateuseone)(:\d{1,3})?")


class ClaimError(ValueError):
    """A claim that cannot be true or that no weights file makes."""


@dataclass(frozen=True)
class ElementType:
    """What stands for a class of storages; no value of its own."""

    dtype: str


@dataclass(frozen=True)
class StorageClaim:
    """A run of ``numel`` elements that the file says it holds under ``key``."""

    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        """Bytes that the storage takes in the file."""
        return self.numel * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class TensorClaim:
    """A tensor that the file says it holds: its type, its shape and where it lies; no data."""

    storage: StorageClaim
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The element type as torch names it, such as ``float16``."""
        return self.storage.dtype


def claim_storage(identity: object) -> StorageClaim:
    """Check the persistent id ``("storage", type, key, device, numel[, None])`` of a storage.

    Raises:
        ClaimError: with what is wrong.
    """
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ClaimError("a persistent id that is not a tensor's storage")
    kind, key, device, numel = identity[1:5]
    if not isinstance(kind, ElementType):
        raise ClaimError("a persistent id that is not a tensor's storage")
    if identity[5:] not in ((), (None,)):
        raise ClaimError("a storage that is a view of another")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ClaimError(f"a storage named {_short(key)}")
    # Only its form matters: everything is read onto the CPU.
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise ClaimError(f"a storage on the device {_short(device)}")
    return StorageClaim(key, kind.dtype, _count(numel))


def claim_tensor(storage: object, offset: object, shape: object, stride: object) -> TensorClaim:
    """Check that a tensor lies inside its storage and has no more elements than it.

    Raises:
        ClaimError: with what is wrong.
    """
    if not isinstance(storage, StorageClaim):
        raise ClaimError("a tensor without a storage")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise ClaimError("a tensor whose shape and strides do not match")
    if len(shape) > _MAX_AXES:
        raise ClaimError(f"a tensor with {len(shape)} axes")
    tensor = TensorClaim(storage, _count(offset), tuple(map(_count, shape)), tuple(map(_count, stride)))
    elements = prod(tensor.shape)
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    # Strides of 0 let a tensor of one element claim any shape, and a copy of it takes that memory.
    # An empty tensor reaches nowhere, wherever it begins.
    if elements > storage.numel or (elements and last >= storage.numel):
        raise ClaimError(f"a tensor of {elements} elements that reaches beyond its storage of {storage.numel}")
    return tensor


def check_tree(value: Tree, limits: WeightsLimits) -> None:
    """Refuse a tree that contains itself, is too deep, is huge once its shared parts are written out, or holds more
    than values.

    Raises:
        ClaimError: with which of them it is.
    """
    _weigh(value, limits.depth, limits, {})


def _weigh(value: Tree, depth: int, limits: WeightsLimits, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many nodes ``value`` has when written out, and how many levels."""
    if not isinstance(value, (dict, list, tuple)):
        if not isinstance(value, (str, bytes, int, float, TensorClaim, type(None))):
            raise ClaimError("a function or a type where a value should be")
        return 1, 0
    weight, height = known.get(id(value), (0, 0))
    if not weight:
        if depth == 0:
            raise ClaimError(f"values more than {limits.depth} levels deep")
        # Marked while its parts are weighed: meeting it again there means that it contains itself.
        known[id(value)] = (-1, -1)
        inside = value.values() if isinstance(value, dict) else value
        parts = [_weigh(part, depth - 1, limits, known) for part in inside]
        weight = 1 + sum(part for part, _ in parts)
        height = 1 + max((part for _, part in parts), default=0)
        known[id(value)] = (weight, height)
    if weight < 0:
        raise ClaimError("a value that contains itself")
    if height > depth or weight > limits.nodes:
        raise ClaimError(f"values more than {limits.depth} levels deep or more than {limits.nodes} in all")
    return weight, height


def _count(value: object) -> int:
    # bool is an int, too, and no length.
    if type(value) is not int or not 0 <= value <= _MAX_LENGTH:
        raise ClaimError(f"a length or position of {_short(value)}")
    return value


def _short(value: object) -> str:
    return repr(value)[:60] if isinstance(value, (str, int, bytes)) else type(value).__name__
