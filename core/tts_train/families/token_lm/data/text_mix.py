"""Text questions and answers among the speech, as in pre-training: where they come from and how often they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tts_train.datasets.batches import Batches, pack
from tts_train.datasets.store.foreign import foreign_rows, hash_of_arrays, hash_of_files
from tts_train.datasets.store.parquet_rows import ParquetRows
from tts_train.datasets.store.shards import PREPARE
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.data.token_rows import TOKEN_COLUMNS, read_blocks, read_rows

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import TokenLayout
    from tts_train.families.token_lm.model import TokenLM

TextRows: TypeAlias = "list[NDArray[np.int64]] | ParquetRows"


@dataclass(frozen=True)
class TextMix:
    """Text rows among the speech, which keep a model's command of language while it learns to speak."""

    path: str | None = None
    """JSONL of objects with ``question``, ``answer`` and perhaps ``system``, or Parquet or a ``save_to_disk`` folder
    with ``input_ids``."""
    ratio: float = 1.0
    """Text batches for each speech batch at the beginning of training; fractions are fine."""
    ratio_end: float | None = None
    """Text batches for each speech batch after ``epochs``; in between the ratio moves evenly. None: it stays."""
    epochs: int = 1
    """Epochs in which the ratio moves from ``ratio`` to ``ratio_end``."""
    tokenizer: str | None = None
    """Tokenizer for JSONL; None takes the one that the speech was prepared with."""

    def __post_init__(self) -> None:
        if self.ratio < 0 or (self.ratio_end or 0) < 0:
            raise ConfigError("--data.text_mix.ratio and ratio_end are text batches per speech batch, 0 or more.")
        if self.epochs < 1:
            raise ConfigError(f"--data.text_mix.epochs must be 1 or more, not {self.epochs}.")

    def ratio_at(self, progress: float) -> float:
        """Return the ratio after ``progress`` epochs."""
        end = self.ratio if self.ratio_end is None else self.ratio_end
        return self.ratio + (end - self.ratio) * min(1.0, progress / self.epochs)


class TextSet(Dataset[Document]):
    """Text rows as documents, with their lengths."""

    def __init__(
        self,
        layout: TokenLayout,
        rows: list[NDArray[np.int64]] | ParquetRows,
        lengths: NDArray[np.int64],
        *,
        answers: bool,
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.lengths = lengths
        self.answers = answers

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def hash(self) -> str:
        """A hash of the content."""
        return hash_of_files(self.rows.files) if isinstance(self.rows, ParquetRows) else hash_of_arrays(self.rows)

    def __getitem__(self, index: int) -> Document:
        if isinstance(self.rows, ParquetRows):
            lists, _ = read_rows(self.rows.record(index), self.layout)
            ids, learnt = lists.ids, lists.learnt
        else:
            ids, learnt = self.rows[index], None
        start = self.layout.start_of_answer
        answer = np.flatnonzero(ids == start) if start is not None else np.empty(0, np.int64)
        # A row without the mark is learnt whole: it is no question with an answer.
        learn_from = int(answer[0]) + 1 if self.answers and len(answer) else 0
        return Document(f"text:{index}", ids, learn_from, learnt=learnt)


def open_text(token_lm: TokenLM, mix: TextMix, *, max_tokens: int, tokenizer: str | None, answers: bool) -> TextSet:
    """Read the text rows.

    Args:
        token_lm: the model that they are for.
        mix: the options; ``mix.path`` is given.
        max_tokens: longest row; longer ones are an error, since text can be cut where it is written.
        tokenizer: the one to use if the options name none.
        answers: take the loss on answers only.

    Raises:
        DataError: if a line is not as described, a row is too long, or there is none.
    """
    path = Path(mix.path or "")
    if not path.exists():
        raise DataError(f"--data.text_mix.path: there is nothing at {path}.")
    rows: TextRows
    if path.is_dir() or path.suffix == ".parquet":
        # Left on disk: text sets are often larger than the speech.
        rows, lengths = _tokenised(token_lm.layout, path)
    else:
        source = mix.tokenizer or tokenizer
        if source is None:
            raise ConfigError("Name the tokenizer of the text with --data.text_mix.tokenizer: the speech set does not.")
        rows = list(_from_jsonl(token_lm, path, source))
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if not len(lengths) or int(lengths.min()) < 1:
        raise DataError(f"--data.text_mix.path: {path} has no rows, or empty ones.")
    if int(lengths.max()) > max_tokens:
        raise DataError(
            f"Row {int(lengths.argmax()) + 1} of {path} has {int(lengths.max())} tokens and --data.max_tokens is "
            f"{max_tokens}. Shorten the text or raise it."
        )
    return TextSet(token_lm.layout, rows, lengths, answers=answers)


def mix_batches(
    speech: Callable[[int], Batches],
    text: TextSet,
    mix: TextMix,
    *,
    offset: int,
    max_tokens: int,
    seed: int,
    epoch: int,
) -> Batches:
    """Put text batches before the speech batches, as many as the ratio says at each point of the epoch.

    All epochs get as many batches as the longest one, since a trainer counts them once: where the ratio asks for less
    text, speech fills the rest from a further shuffle. Each epoch has every speech row at least once; it goes through
    the text in an order of its own, and begins again if it needs more.

    Args:
        speech: number of a shuffle (of this epoch) to speech batches, always as many.
        text: the text rows; they get indices from ``offset`` on.
        mix: the options.
        offset: number of speech rows.
        max_tokens: budget of a batch.
        seed: one seed, one sequence of epochs.
        epoch: from 0.
    """
    lap = speech(0)
    # The ratio moves evenly, so the longest epoch is among those in which it moves and the first after them.
    length = max(len(_turns(len(lap), mix, number)) for number in range(mix.epochs + 1))
    text_batches = _text_batches(text, offset=offset, max_tokens=max_tokens, seed=seed, epoch=epoch)
    speech_batches = (batch for number in count() for batch in (lap if number == 0 else speech(number)))
    turns = _turns(len(lap), mix, epoch, at_least=length)[:length]
    return [next(text_batches if is_text else speech_batches) for is_text in turns]


def _turns(speech_batches: int, mix: TextMix, epoch: int, *, at_least: int = 0) -> list[bool]:
    """Return which batches of an epoch are text."""
    turns: list[bool] = []
    due, spoken = 0.0, 0
    while spoken < speech_batches or len(turns) < at_least:
        due += mix.ratio_at(epoch + min(1.0, spoken / speech_batches))
        # Sums of fractions such as 0.1 fall short of whole numbers by a rounding error.
        texts = int(due + 1e-9)
        due -= texts
        turns += [True] * texts + [False]
        spoken += 1
    return turns


def _text_batches(text: TextSet, *, offset: int, max_tokens: int, seed: int, epoch: int) -> Iterator[list[int]]:
    for lap in count():
        for batch in pack(text.lengths, max_tokens, seed=lap_seed(seed, lap + 1), epoch=epoch):
            yield [offset + row for row in batch]


def lap_seed(seed: int, lap: int) -> int:
    """Return the seed of a further shuffle within an epoch; lap 0 is the epoch's own."""
    # A prime far above usual seeds, so that a lap of one seed is not the epoch of another.
    return seed + 1_000_003 * lap


def _tokenised(layout: TokenLayout, path: Path) -> tuple[ParquetRows, NDArray[np.int64]]:
    """Open rows of ids, and return how long each is without its padding."""
    rows = foreign_rows(path, columns=TOKEN_COLUMNS, prepare=PREPARE)
    if "input_ids" not in rows.names:
        raise DataError(f"--data.text_mix.path: {path} has no column input_ids.")
    sizes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for lists, _ in read_blocks(rows, layout):
        # Text rows are no utterances, so only their lists and the range of their ids are checked.
        fault = next((fault for fault in lists.faults if fault), "")
        if not fault and len(lists.ids) and (int(lists.ids.min()) < 0 or int(lists.ids.max()) >= layout.vocab_size):
            fault = f"an id is outside of 0..{layout.vocab_size - 1}"
        if fault:
            raise DataError(f"--data.text_mix.path: {path} has rows that cannot be used; of the first, {fault}.")
        sizes.append(lists.sizes)
    return rows, np.concatenate(sizes)


def _from_jsonl(token_lm: TokenLM, path: Path, source: str) -> Iterator[NDArray[np.int64]]:
    tokenizer, prompt = token_lm.load_tokenizer(source), token_lm.prompt
    # Editors under Windows put a byte order mark in front, and no JSON begins with one.
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _parse(line, f"{path}:{number}")
            system = prompt.encode_text(tokenizer, row["system"]) if row.get("system") else None
            question, answer = (prompt.encode_text(tokenizer, row[name]) for name in ("question", "answer"))
            yield prompt.text_row(question, answer, system).input_ids


def _parse(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    texts = [row.get(name) for name in ("question", "answer")] if isinstance(row, dict) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f'{where} must be an object like {{"question": "…", "answer": "…"}}, perhaps with "system".')
    return dict(row)
