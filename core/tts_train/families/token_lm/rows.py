"""Rows and prompts of ids, and the format that a backend hands in to make them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tts_train.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids


@dataclass(frozen=True)
class IdRow:
    """One training row: ids, and how many of them are the prompt."""

    input_ids: Ids
    prompt: int
    """Ids before the first one that the model has to say; the rest is what it says, ends included."""

    @property
    def spoken(self) -> NDArray[np.bool_]:
        """True at the positions that the model has to say (audio or answer, and the ends after it)."""
        return np.arange(len(self.input_ids)) >= self.prompt


class PromptFormat(Protocol):
    """How a model's rows and prompts are put together from text ids and audio ids."""

    def encode_text(self, tokenizer: PreTrainedTokenizerBase, text: str, speaker: str | None = None) -> list[int]:
        """Return the ids of a text with its voice.

        Raises:
            DataError: if the tokenizer is not the model's, or the text names control tokens.
        """

    def inference_prompt(self, text_ids: ArrayLike) -> Ids:
        """Return the ids after which the model speaks; the last one is the layout's ``start_of_speech``."""

    def speech_row(self, text_ids: ArrayLike, audio_ids: ArrayLike) -> IdRow:
        """Return a training row: the prompt, the audio, the end of speech."""

    def zero_shot_prompt(self, references: Iterable[tuple[ArrayLike, ArrayLike]], text_ids: ArrayLike) -> Ids:
        """Return a prompt for an unseen voice: (text ids, audio ids) pairs said by it, then the text to say."""

    def text_row(self, question_ids: ArrayLike, answer_ids: ArrayLike, system_ids: ArrayLike | None = None) -> IdRow:
        """Return a row of text only, to be mixed in, so that the model keeps its language; a model may have none."""
        raise DataError("This model has no output for text: leave --data.text_mix.path empty.")
