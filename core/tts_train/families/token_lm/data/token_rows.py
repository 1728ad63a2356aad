"""Rows of ids made elsewhere: are they utterances of the model, and how much of each is prompt?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tts_train.corpus.rows.columns import COLUMNS, match_columns
from tts_train.corpus.rows.token_lists import MEANINGS, TokenLists, read_token_lists

if TYPE_CHECKING:
    import pyarrow as pa

    from tts_train.datasets.store.parquet_rows import ParquetRows
    from tts_train.families.token_lm.layout import TokenLayout

    Table: TypeAlias = "pa.Table | pa.RecordBatch"

TOKEN_COLUMNS = tuple(name for meaning in MEANINGS for name in COLUMNS[meaning])
"""Columns that say which ids of a row are real and learnt, in sets made elsewhere; ``labels`` also in prepared ones."""

# Rows checked at a time: numpy's passes are long enough, and a set of millions is never in memory whole.
_BLOCK = 20_000


@dataclass(frozen=True)
class Inspected:
    """What :func:`inspect_rows` finds, by row."""

    faults: list[str]
    """What is wrong with a row; empty if nothing is."""
    prompts: NDArray[np.int64]
    """Ids up to and with the start of speech; meaningless for a row with a fault."""
    frames: NDArray[np.int64]
    """Whole frames of audio ids."""


def read_rows(table: Table, layout: TokenLayout) -> tuple[TokenLists, Inspected]:
    """Read rows of ids as sets made elsewhere have them, and check them.

    What the attention mask leaves out goes, and padding at either end, whether there is a mask or not.

    Args:
        table: with a column ``input_ids``, and perhaps ``attention_mask``, ``labels`` and a mask of the loss.
        layout: the ids.
    """
    columns = match_columns(table.column_names)
    wanted = {meaning: columns[meaning] for meaning in MEANINGS if meaning in columns}
    given = read_token_lists({meaning: _one(table.column(name)) for meaning, name in wanted.items()})
    lists = without_padding(given, layout)
    found = inspect_rows(lists.ids, lists.sizes, layout)
    faults = [told or seen for told, seen in zip(lists.faults, found.faults, strict=True)]
    return lists, Inspected(faults, found.prompts, found.frames)


def read_blocks(rows: ParquetRows, layout: TokenLayout) -> Iterator[tuple[TokenLists, Inspected]]:
    """Read all rows, some thousand at a time, as :func:`read_rows` does."""
    for table in rows.tables([name for name in rows.names if name in TOKEN_COLUMNS]):
        for start in range(0, table.num_rows, _BLOCK):
            yield read_rows(table.slice(start, _BLOCK), layout)


def without_padding(lists: TokenLists, layout: TokenLayout) -> TokenLists:
    """Leave out padding at the ends of rows: pad tokens, and any other id outside of text and audio that is repeated.

    Of the id that ends a row one stays.
    """
    rows, sizes = lists.rows, lists.sizes
    positions = np.arange(len(lists.ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if not len(rows):
        return lists
    ends = np.cumsum(sizes) - 1
    head = _padding(layout, lists.ids, rows, positions, ends - sizes + 1, sizes, from_end=False)
    tail = _padding(layout, lists.ids, rows, positions, ends, sizes, from_end=True)
    return lists.keep((positions >= head[rows]) & (positions < (sizes - tail)[rows]))


def _padding(
    layout: TokenLayout,
    ids: NDArray[np.int64],
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    edges: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    from_end: bool,
) -> NDArray[np.int64]:
    """Return how many ids at one end of each row are padding."""
    # An empty row has no edge; the start of speech is never taken for padding.
    edge = np.where(sizes > 0, ids[np.clip(edges, 0, len(ids) - 1)], layout.start_of_speech)
    other = ids != edge[rows]
    nearest = np.where(from_end, -1, sizes)
    which = np.flatnonzero(other) if from_end else np.flatnonzero(other)[::-1]
    nearest[rows[which]] = positions[which]  # of equal places the last one written stays
    run = sizes - 1 - nearest if from_end else nearest
    text = (edge < layout.text_tokens) & (edge > 0)
    # Text may repeat a token and audio a code. A control id that stands there twice can only be padding.
    repeated = (run > 1) & ~text & (edge < layout.audio_base) & ~np.isin(edge, layout.once)
    padding = np.where(np.isin(edge, (layout.pad, layout.text_pad)) | repeated, run, 0)
    # Some programs pad with the id that ends a row: one of these is the row's own.
    left: NDArray[np.int64] = padding - ((edge == layout.end_of_row) & (padding > 0))
    return left


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def inspect_rows(ids: ArrayLike, lengths: ArrayLike, layout: TokenLayout) -> Inspected:
    """Check many rows at once.

    A row is an utterance if it has one start of speech, whole frames of audio ids in slot order right after it, one
    end of speech right after those, and no id outside of the vocabulary.

    Args:
        ids: (sum of lengths,) the rows' ids, one row after the other.
        lengths: (rows,)
        layout: the ids.
    """
    flat, sizes = np.asarray(ids, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    positions = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts, start_at = _only(flat == layout.start_of_speech, rows, positions, len(sizes))
    ends, end_at = _only(flat == layout.end_of_speech, rows, positions, len(sizes))
    slots = layout.slot_of(flat)
    audio = slots >= 0
    # Counted from the start of speech, so that an id that is missing shows in all those behind it.
    wrong = audio & (slots != (positions - start_at[rows] - 1) % layout.slots)
    outside = (flat < 0) | (flat >= layout.vocab_size)
    counts = {name: np.bincount(rows[mask], minlength=len(sizes)) for name, mask in _masks(audio, wrong, outside)}
    between = end_at - start_at - 1
    speech, end = layout.start_of_speech, layout.end_of_speech
    checks = (
        (sizes == 0, "it has no ids"),
        (counts["outside"] > 0, f"an id is outside of 0..{layout.vocab_size - 1}"),
        (starts == 0, f"it has no start of speech ({speech})"),
        (starts > 1, "it has several starts of speech; give one utterance a row"),
        (counts["audio"] == 0, f"it has no audio ids ({layout.audio_base} and up)"),
        (ends == 0, f"it has no end of speech ({end}); cut off, it would teach the voice never to stop"),
        ((ends > 1) | (between != counts["audio"]), "its audio ids do not stand between start and end of speech"),
        (counts["wrong"] > 0, "an audio id is in the wrong slot of its frame"),
        (counts["audio"] % layout.slots > 0, f"its last frame is not whole ({layout.slots} ids)"),
    )
    faults = [""] * len(sizes)
    # Backwards: of several faults a row is told of the first in the list, which is the cause of the others.
    for bad, fault in reversed(checks):
        for row in np.flatnonzero(bad):
            faults[row] = fault
    return Inspected(faults, start_at + 1, counts["audio"] // layout.slots)


def _only(
    mask: NDArray[np.bool_], rows: NDArray[np.int64], positions: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how often the mask holds in each row, and where it does last."""
    where = np.zeros(count, dtype=np.int64)
    where[rows[mask]] = positions[mask]
    return np.bincount(rows[mask], minlength=count), where


def _masks(
    audio: NDArray[np.bool_], wrong: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> tuple[tuple[str, NDArray[np.bool_]], ...]:
    return ("audio", audio), ("wrong", wrong), ("outside", outside)
