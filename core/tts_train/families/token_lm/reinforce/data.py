"""The data module of texts that are spoken in training; each argument is a flag below ``--data``.

A batch is one text and stands for all takes of it. What is drawn are the takes of a whole step, whose texts every batch
names: a decoding step costs a card the same for 8 rows as for 64.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, cast

import numpy as np
from torch.utils.data import Dataset

from tts_train.contract.data import AUTO, StageData
from tts_train.datasets.split import split
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.preference.batch import IdGroup
from tts_train.families.token_lm.reinforce.takes import TakenBatch, made_up_batch
from tts_train.families.token_lm.speaking.drawing import require_one_utterance
from tts_train.families.token_lm.speaking.sources import known_of
from tts_train.sampling.texts import Texts, read_texts

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.scoring.sentences import TextRow

_log = logging.getLogger(__name__)

UNKNOWN = 8192
"""What stands for ``max_tokens`` while a plan looks for it."""
HELD_OUT = -1
"""Stands where the number of a step would: texts of a validation."""


class Turn(TypedDict):
    """A batch: whose turn it is in which step."""

    step: int
    """Number of the step in the run, the passes over its takes counted as one; :data:`HELD_OUT` in a validation."""
    lap: int
    """Which pass over the takes of the step this is, from 0."""
    place: int
    """Which of the step's texts this batch is."""
    texts: list[int]
    """All texts of the step, as numbers of rows."""
    ids: list[str]
    """Id of this batch's text, or of all in a validation."""


class _Turns(Dataset[Turn]):
    """Turns by their number in the run."""

    def __init__(self, data: PromptData) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data.train_rows)

    def __getitem__(self, number: int) -> Turn:
        return self._data.turn(number)


class _Held(Dataset[int]):
    """Numbers of held-out texts."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> int:
        return self._rows[place]


class PromptData(StageData):
    """Texts that are spoken in training; a backend's subclass sets :attr:`token_lm`.

    Args:
        path: Texts to speak, all that ``tts-train sample --texts`` takes: sentences, one a line; a table of them;
            recordings with text, which then serve as references; or a folder that ``tts-train prepare`` wrote.
        texts: Texts of an optimiser step; ``--trainer.accumulate_grad_batches`` follows it.
        max_tokens: Most positions of all takes of a text with their prompt, which counts once; ``auto`` takes what fits
            the card. A take is cut off where each of the others would still have as much room.
        most_seconds: Seconds of sound after which a take is cut off in any case.
        val_share: Share of the texts kept for validation, chosen by their ids and for each speaker; 0 for none.
        val_texts: Most of these that a validation speaks.
        recordings: Recordings that stand for the speakers of texts that have none, for metrics that compare voices.
        language: Language of texts that name none, such as ``en``; some metrics need it.
        corpus_format: Layout of a corpus; ``auto`` detects it.
        group: Follows ``--model.group``.
        passes: Follows ``--model.passes``.
        seed: Seed of the order of the texts, of what is drawn, and of the choice for validation.
        num_workers: Texts are read in this process: 0.
    """

    token_lm: ClassVar[TokenLM]
    """The model that says them."""

    def __init__(
        self,
        path: str,
        texts: int = 4,
        max_tokens: int | Literal["auto"] = UNKNOWN,
        most_seconds: float = 20.0,
        val_share: float = 0.05,
        val_texts: int = 32,
        recordings: str | None = None,
        language: str | None = None,
        corpus_format: str = "auto",
        group: int = 8,
        passes: int = 1,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        self.path = path
        self.max_tokens = UNKNOWN if max_tokens == AUTO else int(max_tokens)
        if self.max_tokens < 1 or texts < 1 or val_texts < 1 or most_seconds <= 0 or num_workers:
            raise ConfigError(
                "--data.texts, max_tokens and val_texts must be 1 or more, most_seconds above 0 and num_workers 0; "
                f"{texts}, {max_tokens}, {val_texts}, {most_seconds:g} and {num_workers} were given."
            )
        self.texts, self.most_seconds = texts, most_seconds
        self.val_share, self.val_texts = val_share, val_texts
        self.recordings = None if recordings is None else Path(recordings)
        self.language, self.corpus_format = language, corpus_format
        self.group, self.passes = group, passes
        self._texts: Texts | None = None
        self.train_rows: list[int] = []
        """Texts that are trained on, as numbers of rows; there after ``setup``."""
        self.held_rows: list[int] = []
        """Texts of a validation."""

    def setup(self, stage: str) -> None:
        """Read the texts once, divide them, and say what is left out, before any step.

        Raises:
            DataError: if there are too few.
        """
        # Lightning calls this for fit and again for validation.
        if self._texts is not None:
            return
        read = read_texts(
            Path(self.path),
            language=self.language,
            layout=self.corpus_format,
            recordings=self.recordings,
            seed=self.seed,
        )
        self._texts = _of_one_utterance(read)
        rows = self._texts.rows
        for reason, count in self._texts.left_out.items():
            _log.warning("%s: %d left out: %s.", self.path, count, reason)
        speakers = [row.speaker for row in rows]
        train, held = split([row.id for row in rows], self.val_share, speakers=speakers, seed=self.seed)
        if len(train) < self.texts:
            raise DataError(
                f"{self.path} has {len(train)} texts to train on, and a step takes --data.texts {self.texts}. Give "
                "more texts, or a smaller number."
            )
        self.train_rows, self.held_rows = train, held[: self.val_texts]
        self.train_set = _Turns(self)
        self.val_set = _Held(self.held_rows) if held else None
        counts = (len(train), len(self.held_rows), self.steps_per_epoch)
        _log.info("%d texts for training, %d for validation; %d steps of new takes an epoch.", *counts)
        if not held:
            _log.warning("No text is kept for validation, so nothing will show what the reward does to other texts.")

    @property
    def rows(self) -> Sequence[TextRow]:
        """All texts, there after ``setup``."""
        assert self._texts is not None
        return self._texts.rows

    @property
    def known(self) -> Texts:
        """The texts with what they are measured against."""
        assert self._texts is not None
        return self._texts

    @property
    def steps_per_epoch(self) -> int:
        """Steps that draw takes; texts that do not fill another one wait for another epoch's order."""
        return len(self.train_rows) // self.texts

    def turn(self, number: int) -> Turn:
        """Return a batch by its number in the run."""
        # Computed and not drawn: a continued run asks for any batch, and gets what it would have had.
        rest, place = divmod(number, self.texts)
        step, lap = divmod(rest, self.passes)
        epoch, first = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)[first * self.texts :][: self.texts]
        texts = [self.train_rows[each] for each in order]
        return Turn(step=step, lap=lap, place=place, texts=texts, ids=[self.rows[texts[place]].id])

    def train_batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return the turns of an epoch: step after step, pass after pass over its takes, text after text."""
        # Numbers go on from epoch to epoch, so that each step has takes of its own.
        count = self.steps_per_epoch * self.passes * self.texts
        return [[number] for number in range(epoch * count, (epoch + 1) * count)]

    def val_batches(self) -> Sequence[Sequence[int]]:
        """Return all held-out texts as one batch, which is drawn as memory has room for it."""
        return [list(range(len(self.held_rows)))] if self.held_rows else []

    def rows_in(self, epoch: int, batch: int) -> list[int]:
        """Return the text of a batch, to name it when a step fails."""
        (number,) = super().rows_in(epoch, batch)
        turn = self.turn(number)
        return [turn["texts"][turn["place"]]]

    def collate(self, rows: list[Any]) -> Turn:
        """Return a turn as it is, and held-out texts together."""
        # A turn is alone in its batch; a validation has all its texts in one.
        if isinstance(rows[0], dict):
            turn: Any = rows[0]
            return cast("Turn", turn)
        return Turn(step=HELD_OUT, lap=0, place=0, texts=list(rows), ids=[self.rows[row].id for row in rows])

    def sample_batch(self, size: int) -> TakenBatch:
        """Return made-up takes of one text that fill ``size`` positions."""
        layout = self.token_lm.layout
        most = longest_take(layout, np.zeros(self.token_lm.prompt_tokens), self.group, size)
        frames = max(most // layout.slots, 1)
        audio = np.arange(frames * layout.slots)
        ids = layout.audio_base + layout.codebook_size * (audio % layout.slots)
        seconds = self.group * len(ids) / layout.tokens_per_second
        prompt = np.arange(self.token_lm.prompt_tokens)
        return made_up_batch([IdGroup("planned", prompt, (ids,) * self.group, seconds)], layout)

    def describe(self) -> Mapping[str, object]:
        """Return hash and number of the texts, for the run's record."""
        known = self.known
        return {
            "hash": known.hash,
            "rows": len(known.rows),
            "left_out": dict(known.left_out),
            "train_rows": len(self.train_rows),
            "val_rows": len(self.held_rows),
            "steps_per_epoch": self.steps_per_epoch,
        }

    def remember(self) -> Mapping[str, object]:
        """Return what is known of the data that the model was made with."""
        return self.facts

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a prepared folder says of itself; else what the model that is trained remembers."""
        from tts_train.datasets.store.shards import PreparedSet, is_prepared

        path = Path(self.path)
        # Texts say nothing of tokenizer, codec and voices; what was made with them does.
        if is_prepared(path):
            prepared = PreparedSet(path, kind=self.token_lm.kind, columns=("id",))
            return {**prepared.facts, "settings": prepared.settings}
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        return known_of(self.token_lm, Path(module.init_from).expanduser()) if module else {}

    def _order(self, epoch: int) -> list[int]:
        order: list[int] = np.random.default_rng([self.seed, epoch]).permutation(len(self.train_rows)).tolist()
        return order


def longest_take(layout: Any, prompt: Any, group: int, max_tokens: int) -> int:  # noqa: ANN401
    """Return how many ids each of so many takes may have for all to fit into a batch: whole frames.

    Args:
        layout: A :class:`TokenLayout`.
        prompt: Ids before the takes.
        group: Takes of a text.
        max_tokens: Most positions of the batch.
    """
    # The prompt's last position is computed for each take.
    room = max_tokens - len(layout.starts(prompt)) - (group - 1)
    return int(max(room, 0) // group // layout.frame_positions * layout.slots)


def _of_one_utterance(texts: Texts) -> Texts:
    """Return the texts without those that a model cannot say in one go."""
    kept, left_out = [], texts.left_out.copy()
    for row in texts.rows:
        # As in `sample`: a take is one utterance, and a longer text would be cut off in every one.
        try:
            require_one_utterance(row.text)
        except DataError:
            left_out["too long for one utterance"] += 1
        else:
            kept.append(row)
    return Texts(rows=tuple(kept), left_out=left_out, voices=texts.voices)
