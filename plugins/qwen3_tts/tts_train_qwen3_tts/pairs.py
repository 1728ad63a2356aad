"""Utterances behind another one of their speaker, as a voice is cloned: by a reference with its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tts_train.datasets import place
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tts_train.families.token_lm import Ids

_PROMPT = Qwen3TTSPrompt()


class PairedSet:
    """Documents by index, of which a share has a reference in front: its text and frames are read, and not learnt.

    Which rows have one, and which, is decided by ids and seed alone: it is the same in every epoch and on any machine.

    Args:
        rows: Documents without references, a ``TokenSet``.
        speakers: Who says each of them.
        share: Of the rows, 0 to 1.
        most: Most positions of a document; a row with which a reference would be longer goes without.
        seed: Of the choice.
    """

    def __init__(self, rows: Any, speakers: Sequence[str], *, share: float, most: int, seed: int) -> None:  # noqa: ANN401
        self._rows = rows
        self._partners = np.full(len(rows), -1)
        """The reference's index for each row, -1 for none."""
        self.lengths: NDArray[np.int64] = np.asarray(rows.lengths).copy()
        of_speaker: dict[str, list[int]] = {}
        ranks = []
        for index, speaker in enumerate(speakers):
            ranks.append(len(of_speaker.setdefault(speaker, [])))
            of_speaker[speaker].append(index)
        for index, number in enumerate(rows.rows):
            others, name = of_speaker[speakers[index]], rows.prepared.ids[number]
            if len(others) < 2 or place(f"has/{name}", seed=seed) >= share:
                continue
            # One of the others, each as likely.
            ahead = 1 + int(place(f"which/{name}", seed=seed) * (len(others) - 1))
            chosen = others[(ranks[index] + ahead) % len(others)]
            longer = int(self.lengths[index]) + _added(rows[chosen].input_ids)
            if longer <= most:
                self._partners[index], self.lengths[index] = chosen, longer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        # Reading processes unpickle it, and ask for names before there are rows.
        if name.startswith("_"):
            raise AttributeError(name)
        # The rest is as without references: which rows, of which set.
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - a document
        document, partner = self._rows[index], int(self._partners[index])
        if partner < 0:
            return document
        text, audio = divided(document.input_ids)
        prompt = _PROMPT.zero_shot_prompt([divided(self._rows[partner].input_ids)], text)
        # What was cut off at its end stays so.
        ends = document.input_ids[len(text) + 2 + len(audio) :]
        return replace(document, input_ids=np.concatenate([prompt, audio, ends]), learn_from=len(prompt))


def divided(ids: Ids) -> tuple[Ids, Ids]:
    """Return the positions of a row's text, and the ids of its frames."""
    begins = int(np.flatnonzero(ids == LAYOUT.start_of_speech)[-1])
    said = ids[begins + 1 :]
    return ids[: begins - 1], said[LAYOUT.slot_of(said) >= 0]


def _added(ids: Ids) -> int:
    """Return how many positions a row takes as a reference: the text that is read out, and its frames."""
    text, audio = divided(ids)
    return len(text) - int(np.argmax(text == LAYOUT.text_begins)) - 1 + len(audio) // LAYOUT.slots
