"""Opens a prepared set for a stage: one of this backend, or Parquet files made elsewhere, whose numbers are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tts_train.contract import DataError
from tts_train.datasets import PREPARE, PreparedSet, is_number_list

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
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(names)}). Prepare the recordings: "
            f"{PREPARE.replace('--backend B', '--backend gpt_sovits')} {path}-prepared"
        )
    if not prepared.index:  # what prepare wrote was checked when it was written
        _check(prepared, [name for name in names if name in _LISTS and name in (*needed, *columns)])
        for name in _TEXTS:
            if name in names and pa.types.is_nested(prepared.rows.types[name]):
                raise DataError(f"The column {name} of {path} is not a text a row, but {prepared.rows.types[name]}.")
    return prepared


def largest_phoneme(prepared: PreparedSet) -> int:
    """Return the greatest number among a set's phonemes; 0 where there are none."""
    chunks = [chunk for table in prepared.rows.tables(["phonemes"]) for chunk in table.column(0).chunks]
    return max((pc.max(chunk.flatten()).as_py() or 0 for chunk in chunks), default=0)


def _check(prepared: PreparedSet, names: Sequence[str]) -> None:
    types = prepared.rows.types
    for name in names:
        kind = types[name]
        if pa.types.is_null(kind) and name not in ("phonemes", "codes", "wave"):
            continue  # nothing but missing values
        whole = is_number_list(kind) and not pa.types.is_floating(kind.value_type)
        if not is_number_list(kind) or (name in _WHOLE and not whole):
            what = "whole numbers" if name in _WHOLE else "numbers"
            raise DataError(f"The column {name} of {prepared.path} is not a list of {what} a row, but {kind}.")
        if name in _LIMITS:
            _check_range(prepared, name)


def _check_range(prepared: PreparedSet, name: str) -> None:
    for table in prepared.rows.tables([name]):
        for chunk in table.column(name).chunks:
            values = chunk.flatten()
            if values.null_count:
                raise DataError(f"The column {name} of {prepared.path} has lists in which a number is missing.")
            least, most = (pc.min_max(values)[end].as_py() for end in ("min", "max"))
            if least is not None and not 0 <= least <= most < _LIMITS[name]:
                wrong = least if least < 0 else most
                raise DataError(
                    f"The column {name} of {prepared.path} has {wrong}, and its numbers are from 0 to "
                    f"{_LIMITS[name] - 1}."
                )
