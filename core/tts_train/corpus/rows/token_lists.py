"""Rows of a tokenised data set: padding by the attention mask left out, and which ids are learnt, by the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

NO_LABEL = -100
"""The label of an id on which no loss is taken."""
MEANINGS = ("input_ids", "attention_mask", "labels", "loss_mask")
"""What :func:`read_token_lists` reads, as :mod:`tts_train.corpus.rows.columns` names it."""

Flags = NDArray[np.bool_]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class TokenLists:
    """Ids of many rows, one row after the other."""

    ids: Ids
    """(sum of sizes,) without what the attention mask leaves out."""
    sizes: Ids
    """(rows,) ids of each."""
    learnt: Flags | None
    """(sum of sizes,) whether a loss is taken on the id; None where no column says."""
    faults: list[str]
    """(rows,) what is wrong with a row; empty if nothing is."""
    given: int
    """Ids that the columns had, padding included."""

    def keep(self, kept: Flags) -> TokenLists:
        """Return the rows with only the ids that ``kept``, (sum of sizes,), marks."""
        learnt = None if self.learnt is None else self.learnt[kept]
        sizes = np.bincount(self.rows[kept], minlength=len(self.sizes))
        return TokenLists(self.ids[kept], sizes.astype(np.int64), learnt, self.faults, self.given)

    @property
    def rows(self) -> Ids:
        """(sum of sizes,) the row of each id."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def read_token_lists(columns: Mapping[str, pa.Array]) -> TokenLists:
    """Read rows of ids; a row that cannot be used gets a fault with its column's name, whatever the columns hold.

    Args:
        columns: by meaning, of which ``input_ids`` must be there. ``attention_mask`` is 1 at real ids and 0 at padding,
            ``labels`` repeat the id where a loss is taken and are -100 elsewhere, ``loss_mask`` is 1 where one is.
    """
    ids, sizes, faults = _lists(columns["input_ids"], "input_ids")
    found = TokenLists(ids, sizes, None, faults, len(ids))
    learnt: Flags | None = None
    if "labels" in columns:
        labels = _beside(found, columns["labels"], "labels", absent=None)
        _blame(found, (labels != NO_LABEL) & (labels != ids), "a label is neither -100 nor the id at its place")
        learnt = labels != NO_LABEL
    if "loss_mask" in columns:
        taken = _beside(found, columns["loss_mask"], "loss_mask", absent=1)
        _blame(found, (taken != 0) & (taken != 1), "its loss mask has values besides 0 and 1")
        learnt = (taken != 0) if learnt is None else learnt & (taken != 0)
    found = TokenLists(ids, sizes, learnt, faults, len(ids))
    if "attention_mask" in columns:
        real = _beside(found, columns["attention_mask"], "attention_mask", absent=1)
        _blame(found, (real != 0) & (real != 1), "its attention_mask has values besides 0 and 1")
        found = _without_padding(found, real != 0)
    if found.learnt is not None:
        some = np.bincount(found.rows[found.learnt], minlength=len(sizes))
        _name(faults, np.flatnonzero((some == 0) & (found.sizes > 0)), "its labels leave nothing to learn")
    return found


def _without_padding(found: TokenLists, real: Flags) -> TokenLists:
    # A stretch of real ids begins where none stands before it in its row.
    begins = real.copy()
    begins[1:] &= ~real[:-1] | (found.rows[1:] != found.rows[:-1])
    stretches = np.bincount(found.rows[begins], minlength=len(found.sizes))
    _name(found.faults, np.flatnonzero(stretches > 1), "its attention_mask leaves out ids between real ones")
    return found.keep(real)


def _lists(column: pa.Array, name: str) -> tuple[Ids, Ids, list[str]]:
    """Return the numbers of a column, how many each row has, and what is wrong with each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    kind = column.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    held = kind.value_type if listed else None
    if held is None or not (pa.types.is_integer(held) or pa.types.is_boolean(held) or pa.types.is_null(held)):
        fault = f"its {name} is not a list of whole numbers, but {kind}"
        return np.empty(0, np.int64), np.zeros(len(column), np.int64), [fault] * len(column)
    # One kind for all: offsets of 32 bits end at two thousand million ids.
    column = column.cast(pa.large_list(held))
    sizes = np.asarray(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    values = column.flatten()
    faults = [""] * len(column)
    if values.null_count:
        empty = values.is_null().to_numpy(zero_copy_only=False)
        _name(faults, np.repeat(np.arange(len(sizes)), sizes)[empty], f"a number of its {name} is missing")
    # Numbers beyond 63 bits come out negative, which no id and no mask is.
    whole = values.cast(pa.int64(), safe=False).fill_null(0)
    return whole.to_numpy(zero_copy_only=False).astype(np.int64), sizes, faults


def _beside(found: TokenLists, column: pa.Array, name: str, *, absent: int | None) -> Ids:
    """Return a column's numbers, one for each id; ``absent`` (None: the id itself) in rows without a list."""
    values, sizes, faults = _lists(column, name)
    given = ~column.is_null().to_numpy(zero_copy_only=False)
    fits = given & (sizes == found.sizes)
    for row in np.flatnonzero(given).tolist():
        fault = faults[row] or ("" if fits[row] else f"its {name} has {sizes[row]} numbers for {found.sizes[row]} ids")
        found.faults[row] = found.faults[row] or fault
    out: Ids = found.ids.copy() if absent is None else np.full(len(found.ids), absent, dtype=np.int64)
    # Rows that do not fit keep the default; their fault is told already.
    out[np.repeat(fits, found.sizes)] = values[np.repeat(fits, sizes)]
    return out


def _blame(found: TokenLists, wrong: Flags, fault: str) -> None:
    _name(found.faults, np.unique(found.rows[wrong]), fault)


def _name(faults: list[str], rows: Ids, fault: str) -> None:
    for row in rows.tolist():
        faults[row] = faults[row] or fault


def of_one_row(row: Mapping[str, Any]) -> TokenLists:
    """Read one row of Python lists, by meaning, as :func:`read_token_lists` does many."""
    import pyarrow as pa

    def one(value: Any, name: str) -> pa.Array:  # noqa: ANN401 - whatever the column holds
        try:
            return pa.array([value])
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ValueError(f"its {name} is not a list of whole numbers: {str(error).splitlines()[0]}") from None

    try:
        return read_token_lists({name: one(row[name], name) for name in MEANINGS if name in row})
    except ValueError as error:
        return TokenLists(np.empty(0, np.int64), np.zeros(1, np.int64), None, [str(error)], 0)
