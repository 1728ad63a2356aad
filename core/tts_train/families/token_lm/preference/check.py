"""Whether what comes from elsewhere is ids, and two takes of one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tts_train.datasets.store.parquet_rows import is_number_list
from tts_train.errors import DataError

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Ids, TokenLayout


SAME = "both takes are the same"
"""A fault that says nothing against the model of the pairs: two seeds may draw the same ids."""


def require_ids(types: Mapping[str, pa.DataType], names: Sequence[str], path: Path) -> None:
    """Refuse columns that do not hold lists of whole numbers.

    Raises:
        DataError: naming the column and its type.
    """
    for name in names:
        kind = types[name]
        # Text would be no number, and half a number would be cut to a whole one without a word.
        if not is_number_list(kind) or pa.types.is_floating(kind.value_type):
            raise DataError(f"The column {name} of {path} is not a list of whole numbers a row, but {kind}.")


def fault_of(prompt: Ids, chosen: Ids, rejected: Ids, layout: TokenLayout) -> str | None:
    """Return what is wrong with a pair; None if nothing is.

    The better take is whole frames and the end of speech. The worse one may be anything that was drawn, as far as the
    network can read it: an id in the wrong slot is one of the faults that it is rejected for.
    """
    for name, ids in (("prompt_ids", prompt), ("the better take", chosen), ("the worse take", rejected)):
        if not len(ids):
            return f"{name} has no ids"
        if ids.min() < 0 or ids.max() >= layout.vocab_size:
            return f"{name} has an id outside of 0..{layout.vocab_size - 1}"
    # Generation begins behind it, and so do the log-probabilities.
    if prompt[-1] != layout.start_of_speech:
        return f"prompt_ids does not end with the start of speech ({layout.start_of_speech})"
    # Preferred without an end, the network would learn never to stop.
    if chosen[-1] != layout.end_of_speech or len(chosen) < 2:
        return f"the better take does not end with the end of speech ({layout.end_of_speech}), or has no sound"
    if not _in_frames(chosen[:-1], layout):
        return f"the better take is not whole frames of {layout.slots} ids"
    said = rejected[:-1] if rejected[-1] == layout.end_of_speech else rejected
    if (said == layout.end_of_speech).any():
        return "the worse take goes on behind its end of speech"
    # A frame that is one position cannot be read in part.
    if layout.frame_positions != layout.slots and not _in_frames(said, layout):
        return f"the worse take is not whole frames of {layout.slots} ids"
    return SAME if np.array_equal(chosen, rejected) else None


def _in_frames(ids: Ids, layout: TokenLayout) -> bool:
    slots = layout.slot_of(ids)
    return len(ids) % layout.slots == 0 and bool((slots == np.arange(len(ids)) % layout.slots).all())


def cut_at_frame(ids: Ids, positions: int, layout: TokenLayout) -> Ids:
    """Return ids, or what of them fits in so many positions: whole frames, without an end."""
    if len(layout.starts(ids)) <= positions:
        return ids
    return ids[: positions // layout.frame_positions * layout.slots]
