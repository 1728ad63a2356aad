"""Opens a prepared set for a stage: one of this backend, or Parquet files made elsewhere, whose numbers are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tts_train.contract import DataError
from tts_train.datasets import PreparedSet, TakeSet

KIND = "gpt_sovits/speech"
"""What prepared folders of this backend hold: everything that each of its stages needs."""
CODES, PHONEMES = 1024, 732
"""How many there are: semantic codes, and phonemes of the largest table."""
_LIMITS = {"phonemes": PHONEMES, "codes": CODES, "rejected": CODES}
_WHOLE = (*_LIMITS, "wave")
_LISTS = (*_WHOLE, "bert", "speaker_vector", "ssl")
_TEXTS = ("id", "text", "language", "speaker")


@dataclass(frozen=True)
class HeldOut:
    """The validation rows of a run."""

    data: PreparedSet
    rows: NDArray[np.int64]
    """Which rows of it."""
    languages: Sequence[str | None]
    """Language of each of them."""


def open_prepared(path: str, *, needed: Sequence[str], columns: Sequence[str]) -> PreparedSet:
    """Open a set for a stage.

    Args:
        path: a folder that ``prepare`` wrote, or Parquet files.
        needed: columns of numbers without which the stage cannot train.
        columns: what is read of a row, as far as it is there.

    Raises:
        DataError: if the set was prepared for another backend, a column is missing or holds something else, or a number
            in it means nothing.
    """
    prepared = PreparedSet(path, kind=KIND, length_of="codes", columns=columns)
    names = prepared.rows.names
    prepared.require_columns(needed)
    if not prepared.index:  # what prepare wrote was checked when it was written
        _check(prepared, [name for name in names if name in _LISTS and name in (*needed, *columns)])
        for name in _TEXTS:
            if name in names and pa.types.is_nested(prepared.rows.types[name]):
                raise DataError(f"The column {name} of {path} is not a text a row, but {prepared.rows.types[name]}.")
    return prepared


def largest_phoneme(prepared: PreparedSet | TakeSet) -> int:
    """Return the greatest number among a set's phonemes; 0 where there are none."""
    chunks = [chunk for table in prepared.rows.tables(["phonemes"]) for chunk in table.column(0).chunks]
    return max((pc.max(chunk.flatten()).as_py() or 0 for chunk in chunks), default=0)


def _check(prepared: PreparedSet, names: Sequence[str]) -> None:
    for name in names:
        if pa.types.is_null(prepared.rows.types[name]) and name not in ("phonemes", "codes", "wave"):
            continue  # nothing but missing values
        prepared.check_numbers(name, whole=name in _WHOLE, below=_LIMITS.get(name))
