"""Codes that a row brings along, as a table or a JSON file holds them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 1 << 31


def read_codes(given: object) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Return codes (frames, codebooks) of a list of frames, or of one that is written as JSON, and warnings to count.

    Args:
        given: what the row holds; None or an empty value is a row without codes.
    """
    if given is None or (isinstance(given, (str, list)) and not given):
        return None, ()
    codes = _codes(given)
    # Not refused: most backends encode the recording, and the column may be another tool's.
    return codes, () if codes is not None else ("codes_unread",)


def _codes(given: object) -> NDArray[np.int64] | None:
    try:
        found = np.asarray(json.loads(given) if isinstance(given, str) else given)
    # Frames of several lengths; lists that are nested thousands deep.
    except (ValueError, OverflowError, RecursionError):
        return None
    if found.ndim != 2 or not found.size or found.dtype.kind not in "iu":
        return None
    return None if found.min() < 0 or found.max() >= _MOST else found.astype(np.int64)
