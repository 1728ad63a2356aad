"""The speech rows of a prepared set as documents, none longer than a batch takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tts_train.data.shards import PREPARE, PreparedSet
from tts_train.data.usable import UsableRows
from tts_train.errors import DataError
from tts_train_orpheus.batch import Document
from tts_train_orpheus.chunk import KIND
from tts_train_orpheus.layout import FRAME_SAMPLES, SAMPLE_RATE, SLOTS
from tts_train_orpheus.token_rows import inspect_rows

TooLong = Literal["drop", "cut"]

BAD_SHARE = 0.05
"""Share of unusable rows in a set made elsewhere beyond which training does not start."""
EXAMPLES = 3

_BLOCK = 20_000
_COLUMNS = ("id", "input_ids", "prompt_tokens", "seconds")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenRows(UsableRows):
    """All usable rows of a set: which they are, and how much of each is used."""

    sizes: NDArray[np.int64]
    """Tokens used of each row; less than the row has if it is cut."""

    @classmethod
    def open(cls, path: Path | str, *, max_tokens: int, on_too_long: TooLong) -> TokenRows:
        """Open a prepared folder, or Parquet files with ``input_ids``, and say what is left out.

        Raises:
            DataError: if there is nothing to read, too much of it is no Orpheus utterance, or nothing is left.
        """
        prepared = PreparedSet(path, kind=KIND, columns=_COLUMNS)
        # What prepare wrote was checked when it was written.
        faults = [] if prepared.index else _faults(prepared)
        bad = {row for row, fault in enumerate(faults) if fault}
        if len(bad) > BAD_SHARE * len(prepared) or (bad and len(bad) == len(prepared)):
            raise DataError(_bad_message(prepared, faults))
        sizes = prepared.lengths.copy()
        too_long = [row for row in np.flatnonzero(sizes > max_tokens).tolist() if row not in bad]
        cut = _cut_sizes(prepared, too_long, max_tokens) if on_too_long == "cut" else {}
        sizes[list(cut)] = list(cut.values())
        dropped = bad | (set(too_long) - set(cut))
        left_out = Counter(f"bad_tokens ({faults[row]})" for row in sorted(bad))
        left_out.update({"too_long": len(too_long) - len(cut)} if len(too_long) > len(cut) else {})
        _say(prepared, too_long, cut, left_out, max_tokens)
        rows = np.array([row for row in range(len(prepared)) if row not in dropped], dtype=np.int64)
        if not len(rows):
            raise DataError(_empty_message(prepared, max_tokens))
        return cls(prepared, rows, left_out, sizes[rows])

    def take(self, places: Sequence[int], *, speech_only: bool) -> TokenSet:
        """Return some of the rows as a data set."""
        chosen = np.asarray(places, dtype=np.int64)
        return TokenSet(self.prepared, self.rows[chosen], self.sizes[chosen], speech_only=speech_only)


class TokenSet(Dataset[Document]):
    """Documents by index; rows are read from disk when they are asked for."""

    def __init__(
        self, prepared: PreparedSet, rows: NDArray[np.int64], sizes: NDArray[np.int64], *, speech_only: bool
    ) -> None:
        self.prepared = prepared
        self.rows = rows
        self.lengths = sizes
        self.speech_only = speech_only

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Document:
        number, size = int(self.rows[index]), int(self.lengths[index])
        row = self.prepared.row(number)
        whole = row["input_ids"].astype(np.int64)
        prompt = _prompt_of(row, whole)
        seconds = _seconds_of(row, whole)
        share = 1.0 if size == len(whole) else (size - prompt) / max(1, len(whole) - prompt)
        row_id = str(row["id"]) if "id" in row else f"row:{number}"
        return Document(row_id, whole[:size], prompt if self.speech_only else 0, seconds * share)


def _cut_sizes(prepared: PreparedSet, too_long: Sequence[int], max_tokens: int) -> dict[int, int]:
    """Return where rows are cut: behind the last whole frame that fits; rows without one are not among them."""
    sizes = {}
    for number in too_long:
        row = prepared.row(number)
        prompt = _prompt_of(row, row["input_ids"].astype(np.int64))
        frames = (max_tokens - prompt) // SLOTS
        if frames > 0:
            # END_OF_SPEECH and END_OF_AI alone may be too much: then all frames stay and the ends go.
            sizes[number] = prompt + SLOTS * min(frames, (len(row["input_ids"]) - prompt) // SLOTS)
    return sizes


def _prompt_of(row: dict[str, Any], ids: NDArray[np.int64]) -> int:
    return int(row["prompt_tokens"]) if "prompt_tokens" in row else int(inspect_rows(ids, [len(ids)]).prompts[0])


def _seconds_of(row: dict[str, Any], ids: NDArray[np.int64]) -> float:
    if row.get("seconds") is not None:
        return float(row["seconds"])
    return int(inspect_rows(ids, [len(ids)]).frames[0]) * FRAME_SAMPLES / SAMPLE_RATE


def _faults(prepared: PreparedSet) -> list[str]:
    """Return what is wrong with each row of a set made elsewhere."""
    faults: list[str] = []
    for chunk in prepared.rows.column(prepared.length_of).chunks:
        for start in range(0, len(chunk), _BLOCK):
            part = chunk.slice(start, _BLOCK)
            sizes = part.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            faults += inspect_rows(part.flatten().to_numpy(zero_copy_only=False), sizes).faults
    return faults


def _say(
    prepared: PreparedSet, too_long: Sequence[int], cut: dict[int, int], left_out: Counter[str], max_tokens: int
) -> None:
    for reason, count in left_out.items():
        _log.warning("%s: %d of %d rows are left out: %s.", prepared.path, count, len(prepared), reason)
    if not too_long:
        return
    named = ", ".join(f"{prepared.ids[row]} ({int(prepared.lengths[row])} tokens)" for row in too_long[:EXAMPLES])
    more = f" and {len(too_long) - EXAMPLES} more" if len(too_long) > EXAMPLES else ""
    need = int(prepared.lengths[list(too_long)].max())
    done = "were cut at a frame; the voice learns no stop from them" if cut else "were dropped"
    advice = f"--data.max_tokens {need} takes them all." if cut else f"--data.max_tokens {need} takes all; or cut them."
    _log.warning("Longer than --data.max_tokens %d: %s%s. They %s. %s", max_tokens, named, more, done, advice)


def _bad_message(prepared: PreparedSet, faults: list[str]) -> str:
    counts = Counter(fault for fault in faults if fault)
    lines = "\n".join(f"  {count} rows: {fault}" for fault, count in counts.most_common())
    first = next(row for row, fault in enumerate(faults) if fault)
    return (
        f"{sum(counts.values())} of {len(prepared)} rows in {prepared.path} are no Orpheus utterances; the first is "
        f"{prepared.ids[first]}.\n{lines}\nTokenise the recordings again: {PREPARE} {prepared.path.name}-prepared"
    )


def _empty_message(prepared: PreparedSet, max_tokens: int) -> str:
    if not len(prepared):
        return f"{prepared.path} has no rows. Prepare recordings: {PREPARE} {prepared.path}"
    shortest, longest = int(prepared.lengths.min()), int(prepared.lengths.max())
    return (
        f"No row of {prepared.path} is short enough: --data.max_tokens is {max_tokens} and rows have {shortest} to "
        f"{longest} tokens. Raise it to {longest}, or cut long rows with --data.on_too_long cut."
    )
