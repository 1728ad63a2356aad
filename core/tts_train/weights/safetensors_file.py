"""Read a safetensors file of unknown origin: its header is checked before anything is taken at its word."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.weights.limits import LIMITS, Limits
from tts_train.weights.refusal import check_regular, refuse

if TYPE_CHECKING:
    from torch import Tensor

_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip
_MAX_LENGTH = 2**40
_METADATA = "__metadata__"


def read_safetensors(path: Path, *, limits: Limits = LIMITS) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        DataError: if there is no such regular file.
        UnsafeFileError: if the header is not one that a writer of this format makes.
    """
    metadata = check_safetensors(path, limits=limits)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path), metadata
    except (SafetensorError, ValueError, KeyError) as error:
        raise refuse(path, f"its tensors cannot be read ({str(error)[:200]})") from None


def check_safetensors(path: Path, *, limits: Limits = LIMITS) -> dict[str, str]:
    """Check the header of a safetensors file and return its metadata; no tensor is read.

    Raises:
        DataError: if there is no such regular file.
        UnsafeFileError: for an oversized or damaged header, or tensors that overlap or do not fill the file.
    """
    check_regular(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, limits.header_bytes):
            raise refuse(path, f"it is no safetensors file: its header claims {length} of {size} bytes")
        header = _parse(path, file.read(length))
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise refuse(path, "its metadata is not text")
    end = 0
    for start, stop, name in sorted(_span(path, name, entry) for name, entry in header.items()):
        if start != end:
            raise refuse(path, f"tensor {name!r} overlaps another or leaves a gap")
        end = stop
    if end != size - 8 - length:
        raise refuse(path, f"its tensors claim {end} bytes and there are {size - 8 - length}")
    return metadata


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise refuse(path, f"its header is not JSON ({str(error)[:80]})") from None
    if not isinstance(header, dict):
        raise refuse(path, "its header is not a table of tensors")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _span(path: Path, name: str, entry: object) -> tuple[int, int, str]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise refuse(path, f"the entry of tensor {name[:60]!r} is incomplete")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _lengths(shape) or not _lengths(offsets) or len(offsets) != 2 or entry["dtype"] not in _BYTES:
        raise refuse(path, f"tensor {name[:60]!r} has an impossible type, shape or position")
    if offsets[1] - offsets[0] != prod(shape) * _BYTES[entry["dtype"]]:
        raise refuse(path, f"tensor {name[:60]!r} claims {prod(shape)} elements, which are not there")
    return offsets[0], offsets[1], name


def _lengths(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 64
        and all(type(value) is int and 0 <= value <= _MAX_LENGTH for value in values)
    )
