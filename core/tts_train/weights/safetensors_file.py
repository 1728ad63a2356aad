"""Read a safetensors file of unknown origin with its own library, after a look at the header's size and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.weights.claims import LIMITS, WeightsLimits, check_regular, refuse

if TYPE_CHECKING:
    from torch import Tensor


def read_safetensors(path: Path, *, limits: WeightsLimits = LIMITS) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        DataError: if there is no such regular file.
        UnsafeFileError: if the header is not one that a writer of this format makes.
    """
    check_regular(path)
    header = _header(path, limits)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path), header.get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = str(error).replace("\n", " ")[:200]
        overlaps = (
            "a tensor overlaps another or leaves a gap" if "invalid offset for" in why else "its tensors cannot be read"
        )
        raise refuse(path, f"{overlaps} ({why})") from None


def _header(path: Path, limits: WeightsLimits) -> dict[str, Any]:
    """Return the header, and refuse one that the library would take: of up to 100 MB, or with a name twice."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, limits.header_bytes):
            raise refuse(path, f"it is no safetensors file: its header claims {length} of {size} bytes")
        try:
            # json keeps the last of two equal names, the library may keep the first.
            header = json.loads(file.read(length), object_pairs_hook=_unique)
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
