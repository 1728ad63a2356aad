"""The rows and prompts of ids that Orpheus is trained and asked with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tts_train.contract import DataError
from tts_train.families.token_lm import IdRow
from tts_train_orpheus.layout import (
    BEGIN_OF_TEXT,
    END_OF_AI,
    END_OF_HUMAN,
    END_OF_SPEECH,
    END_OF_SYSTEM,
    END_OF_TURN,
    START_OF_AI,
    START_OF_HUMAN,
    START_OF_SPEECH,
    START_OF_SYSTEM,
    TEXT_TOKENS,
    Ids,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def voice_text(text: str, speaker: str | None = None) -> str:
    """Put a voice before a text, as Orpheus reads it: ``"tara: Hello."``; no speaker leaves the text alone."""
    return f"{speaker}: {text}" if speaker else text


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, speaker: str | None = None) -> list[int]:
    """Return BOS and the ids of a text with its voice.

    Raises:
        DataError: if the tokenizer does not put exactly one BOS in front, or the text names a control token such as
            ``<custom_token_2>``, which would end or begin speech.
    """
    ids = [int(i) for i in tokenizer.encode(voice_text(text, speaker), add_special_tokens=True)]
    # The released models have seen it in front of every text; a tokenizer can be saved without it.
    if ids[:1] != [BEGIN_OF_TEXT]:
        raise DataError(
            f"A text must start with BOS ({BEGIN_OF_TEXT}), and {text!r} became {ids[:4]}… with this tokenizer."
        )
    control = [index for index in ids[1:] if index >= TEXT_TOKENS]
    if control:
        names = ", ".join(tokenizer.convert_ids_to_tokens(control[:3]))
        raise DataError(f"The text {text!r} names control tokens ({names}). Remove them: they mark turns and sound.")
    return ids


def inference_prompt(text_ids: ArrayLike) -> Ids:
    """Return the ids after which the model speaks: the human's turn, then START_OF_AI and START_OF_SPEECH."""
    return _join(_human(text_ids), START_OF_AI, START_OF_SPEECH)


def speech_row(text_ids: ArrayLike, audio_ids: ArrayLike) -> IdRow:
    """Return a training row; ``text_ids`` begin with BOS, ``audio_ids`` are 7 a frame."""
    prompt = inference_prompt(text_ids)
    return IdRow(_join(prompt, audio_ids, END_OF_SPEECH, END_OF_AI), len(prompt))


def zero_shot_prompt(references: Iterable[tuple[ArrayLike, ArrayLike]], text_ids: ArrayLike) -> Ids:
    """Return a prompt for an unseen voice: (text ids, audio ids) pairs said by it, then the text to say."""
    said = [speech_row(text, audio).input_ids for text, audio in references]
    return _join(*said, inference_prompt(text_ids))


def text_row(question_ids: ArrayLike, answer_ids: ArrayLike, system_ids: ArrayLike | None = None) -> IdRow:
    """Return a text row of pre-training: optional system text, question and answer, each beginning with BOS."""
    system = [] if system_ids is None else [START_OF_SYSTEM, system_ids, END_OF_TURN, END_OF_SYSTEM]
    prompt = _join(*system, _human(question_ids), START_OF_AI)
    return IdRow(_join(prompt, answer_ids, END_OF_TURN, END_OF_AI), len(prompt))


def _human(text_ids: ArrayLike) -> Ids:
    return _join(START_OF_HUMAN, text_ids, END_OF_TURN, END_OF_HUMAN)


def _join(*parts: ArrayLike) -> Ids:
    # Single control ids stand between arrays of text and sound.
    arrays: Sequence[Ids] = [np.atleast_1d(np.asarray(part, dtype=np.int64)) for part in parts]
    return np.concatenate(arrays)
