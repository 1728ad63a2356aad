"""The speech rows of a prepared set as documents, none longer than a batch takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tts_train.corpus.rows.columns import describe, match_columns
from tts_train.corpus.rows.token_lists import MEANINGS
from tts_train.datasets.store.shards import PREPARE, SPEAKER_COLUMNS, PreparedSet
from tts_train.datasets.usable import UsableRows
from tts_train.errors import DataError
from tts_train.families.token_lm.data.batch import NO_TARGET, Document
from tts_train.families.token_lm.data.token_rows import TOKEN_COLUMNS, read_blocks, read_rows

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import TokenLayout
    from tts_train.families.token_lm.model import TokenLM

TooLong = Literal["drop", "cut"]

BAD_SHARE = 0.05
"""Share of unusable rows in a set made elsewhere beyond which training does not start."""
EXAMPLES = 3

_ABOUT = ("id", "prompt_tokens", "seconds")
_COLUMNS = (*_ABOUT, *TOKEN_COLUMNS)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenRows(UsableRows):
    """All usable rows of a set: which they are, and how much of each is used."""

    layout: TokenLayout
    sizes: NDArray[np.int64]
    """Positions used of each row, which are its tokens where each has its own; less than it has if it is cut."""

    @classmethod
    def open(cls, token_lm: TokenLM, path: Path | str, *, max_tokens: int, on_too_long: TooLong) -> TokenRows:
        """Open a prepared folder, or Parquet files with ``input_ids``, and say what is left out.

        Raises:
            DataError: if there is nothing to read, too much of it is no utterance of the model, or nothing is left.
        """
        layout = token_lm.layout
        prepared = PreparedSet(path, kind=token_lm.kind, columns=_COLUMNS)
        # What prepare wrote was checked when it was written.
        faults, whole = ([], prepared.lengths) if prepared.index else _inspect(prepared, layout)
        if not prepared.index:
            _say_columns(prepared)
        bad = {row for row, fault in enumerate(faults) if fault}
        # A few bad rows are left out and named. Many mean another model's set, with which no training should begin.
        if len(bad) > BAD_SHARE * len(prepared) or (bad and len(bad) == len(prepared)):
            raise DataError(_bad_message(token_lm, prepared, faults))
        sizes = whole.copy()
        too_long = [row for row in np.flatnonzero(sizes > max_tokens).tolist() if row not in bad]
        cut = _cut_sizes(prepared, layout, too_long, max_tokens) if on_too_long == "cut" else {}
        sizes[list(cut)] = list(cut.values())
        # A long row without a whole frame that fits cannot be cut, and is dropped whatever was asked for.
        dropped = bad | (set(too_long) - set(cut))
        left_out = Counter(f"bad_tokens ({faults[row]})" for row in sorted(bad))
        # Counted apart from bad rows: these are sound, and a larger batch takes them.
        left_out.update({"too_long": len(too_long) - len(cut)} if len(too_long) > len(cut) else {})
        _say(prepared, whole, too_long, cut, left_out, max_tokens)
        rows = np.array([row for row in range(len(prepared)) if row not in dropped], dtype=np.int64)
        if not len(rows):
            raise DataError(_empty_message(token_lm, prepared, whole, max_tokens))
        return cls(prepared, rows, left_out, layout, sizes[rows])

    @property
    def labelled(self) -> bool:
        """Whether the set itself says on which ids a loss is taken."""
        # A loss mask is read from sets made elsewhere only: prepare turns it into labels.
        names = self.prepared.rows.names
        return "labels" in names or (not self.prepared.index and "loss_mask" in match_columns(names))

    def take(self, places: Sequence[int], *, speech_only: bool) -> TokenSet:
        """Return some of the rows as a data set."""
        chosen = np.asarray(places, dtype=np.int64)
        return TokenSet(self.prepared, self.layout, self.rows[chosen], self.sizes[chosen], speech_only=speech_only)


class TokenSet(Dataset[Document]):
    """Documents by index; rows are read from disk when they are asked for."""

    def __init__(
        self,
        prepared: PreparedSet,
        layout: TokenLayout,
        rows: NDArray[np.int64],
        sizes: NDArray[np.int64],
        *,
        speech_only: bool,
    ) -> None:
        self.prepared = prepared
        self.layout = layout
        self.rows = rows
        self.lengths = sizes
        self.speech_only = speech_only

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Document:
        number, size = int(self.rows[index]), int(self.lengths[index])
        row = _row(self.prepared, self.layout, number)
        starts = self.layout.starts(row.ids)
        share = 1.0 if size == len(starts) else (size - row.prompt) / max(1, len(starts) - row.prompt)
        end = int(starts[size]) if size < len(starts) else len(row.ids)
        learnt = None if row.learnt is None else row.learnt[:end]
        learn_from = row.prompt if self.speech_only else 0
        return Document(row.id, row.ids[:end], learn_from, row.seconds * share, learnt)


@dataclass(frozen=True)
class _Row:
    id: str
    ids: NDArray[np.int64]
    learnt: NDArray[np.bool_] | None
    prompt: int
    seconds: float


def _row(prepared: PreparedSet, layout: TokenLayout, number: int) -> _Row:
    """Read a row; of a set made elsewhere without its padding, and with what its ids themselves say about it."""
    if not prepared.index:
        record = prepared.rows.record(number)
        lists, found = read_rows(record, layout)
        named = str(record.column("id")[0].as_py()) if "id" in record.column_names else f"row:{number}"
        # Nothing else in a set made elsewhere says how long a row sounds.
        seconds = int(found.frames[0]) * layout.frame_samples / layout.sample_rate
        return _Row(named, lists.ids, lists.learnt, int(found.prompts[0]), seconds)
    row = prepared.row(number)
    # Null where every id is learnt.
    labels = row.get("labels")
    learnt = None if labels is None else labels != NO_TARGET
    return _Row(str(row["id"]), row["input_ids"].astype(np.int64), learnt, int(row["prompt_tokens"]), row["seconds"])


def _cut_sizes(prepared: PreparedSet, layout: TokenLayout, too_long: Sequence[int], max_tokens: int) -> dict[int, int]:
    """Return where rows are cut: behind the last whole frame that fits; rows without one are not among them."""
    sizes = {}
    for number in too_long:
        row = _row(prepared, layout, number)
        frames = (max_tokens - row.prompt) // layout.frame_positions
        if frames > 0:
            # The ends alone may be too much: then all frames stay and the ends go.
            whole = (len(layout.starts(row.ids)) - row.prompt) // layout.frame_positions
            sizes[number] = row.prompt + layout.frame_positions * min(frames, whole)
    return sizes


def _inspect(prepared: PreparedSet, layout: TokenLayout) -> tuple[list[str], NDArray[np.int64]]:
    """Return what is wrong with each row of a set made elsewhere, and its positions; padding is told of."""
    faults, given, kept = list[str](), 0, 0
    sizes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for lists, found in read_blocks(prepared.rows, layout):
        faults += found.faults
        sizes.append(np.bincount(lists.rows[layout.starts(lists.ids)], minlength=len(lists.sizes)))
        given += lists.given
        kept += len(lists.ids)  # not the positions, of which a frame of many ids may be one
    if given > kept:
        _log.info("%s: %d of %d ids are padding and are left out.", prepared.path, given - kept, given)
    return faults, np.concatenate(sizes)


def _say_columns(prepared: PreparedSet) -> None:
    names = prepared.rows.names
    own = {name: name for name in names if name in (*_ABOUT, *SPEAKER_COLUMNS)}
    used = own | {name: meaning for meaning, name in match_columns(names).items() if meaning in MEANINGS}
    _log.info("Columns of %s: %s", prepared.path, describe(used, names))


def _say(
    prepared: PreparedSet,
    whole: NDArray[np.int64],
    too_long: Sequence[int],
    cut: dict[int, int],
    left_out: Counter[str],
    max_tokens: int,
) -> None:
    for reason, count in left_out.items():
        _log.warning("%s: %d of %d rows are left out: %s.", prepared.path, count, len(prepared), reason)
    if not too_long:
        return
    named = ", ".join(f"{prepared.ids[row]} ({int(whole[row])} tokens)" for row in too_long[:EXAMPLES])
    more = f" and {len(too_long) - EXAMPLES} more" if len(too_long) > EXAMPLES else ""
    # Said as a number to type, as nobody knows their rows' lengths.
    need = int(whole[list(too_long)].max())
    done = "were cut at a frame; the voice learns no stop from them" if cut else "were dropped"
    advice = f"--data.max_tokens {need} takes them all." if cut else f"--data.max_tokens {need} takes all; or cut them."
    _log.warning("Longer than --data.max_tokens %d: %s%s. They %s. %s", max_tokens, named, more, done, advice)


def _prepare_command(token_lm: TokenLM) -> str:
    return PREPARE.replace("--backend B", f"--backend {token_lm.backend}")


def _bad_message(token_lm: TokenLM, prepared: PreparedSet, faults: list[str]) -> str:
    counts = Counter(fault for fault in faults if fault)
    lines = "\n".join(f"  {count} rows: {fault}" for fault, count in counts.most_common())
    first = next(row for row, fault in enumerate(faults) if fault)
    found = f"{sum(counts.values())} of {len(prepared)} rows in {prepared.path} are no {token_lm.name} utterances"
    return (
        f"{found}; the first is {prepared.ids[first]}.\n{lines}\nTokenise the recordings again: "
        f"{_prepare_command(token_lm)} {prepared.path.name}-prepared"
    )


def _empty_message(token_lm: TokenLM, prepared: PreparedSet, whole: NDArray[np.int64], max_tokens: int) -> str:
    if not len(prepared):
        return f"{prepared.path} has no rows. Prepare recordings: {_prepare_command(token_lm)} {prepared.path}"
    shortest, longest = int(whole.min()), int(whole.max())
    return (
        f"No row of {prepared.path} is short enough: --data.max_tokens is {max_tokens} and rows have {shortest} to "
        f"{longest} tokens. Raise it to {longest}, or cut long rows with --data.on_too_long cut."
    )
