"""What a pickle says about tensors, checked before any memory is taken for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

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


def claim_storage(identity: object, dtype: str | None) -> StorageClaim:
    """Check the persistent id ``("storage", type, key, device, numel[, None])`` of a storage.

    Raises:
        ClaimError: with what is wrong.
    """
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage" or dtype is None:
        raise ClaimError("a persistent id that is not a tensor's storage")
    key, device, numel = identity[2:5]
    if identity[5:] not in ((), (None,)):
        raise ClaimError("a storage that is a view of another")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ClaimError(f"a storage named {_short(key)}")
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise ClaimError(f"a storage on the device {_short(device)}")
    return StorageClaim(key, dtype, _count(numel))


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
    if elements > storage.numel or (elements and last >= storage.numel):
        raise ClaimError(f"a tensor of {elements} elements that reaches beyond its storage of {storage.numel}")
    return tensor


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_LENGTH:
        raise ClaimError(f"a length or position of {_short(value)}")
    return value


def _short(value: object) -> str:
    return repr(value)[:60] if isinstance(value, (str, int, bytes)) else type(value).__name__
