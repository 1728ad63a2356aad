"""Hashes of data that no index vouches for, by which a changed set is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from tts_train.disk.files import hash_file

WHOLE_BYTES = 1 << 30
"""Files together not larger than this are hashed whole, which takes a second; of larger ones the ends are."""
_END = 1 << 16


def hash_of_files(files: Sequence[Path]) -> str:
    """Return a hash of files: their names and what is in them, or their sizes and ends where they are large."""
    whole = sum(path.stat().st_size for path in files) <= WHOLE_BYTES
    digest = xxhash.xxh3_128()
    for path in files:
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        if whole:
            digest.update(hash_file(path).encode())
            continue
        with path.open("rb") as file:  # the footer of Parquet: the sizes and extremes of all columns
            file.seek(-min(path.stat().st_size, _END), 2)
            digest.update(file.read())
    return str(digest.hexdigest())


def hash_of_arrays(rows: Iterable[NDArray[np.integer[Any]]]) -> str:
    """Return a hash of rows of numbers."""
    digest = xxhash.xxh3_128()
    for row in rows:
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(row, dtype="<i8").tobytes())
    return str(digest.hexdigest())
