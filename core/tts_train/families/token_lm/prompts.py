"""What stands before the sound: the format that a backend hands in for rows and prompts, and tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tts_train.errors import ConfigError, DataError
from tts_train.weights.hub import from_hub

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
    """How a model's rows and prompts are put together from text ids and audio ids.

    A model that is told a language or an instruction has ``encode_line`` besides; see :func:`encode_line`.
    """

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


def encode_line(
    form: PromptFormat,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    speaker: str | None = None,
    *,
    language: str | None = None,
    instruct: str | None = None,
) -> list[int]:
    """Return the ids of a text, said in a language as an instruction asks where the format knows these.

    Raises:
        DataError: as ``encode_text`` of the format.
    """
    tell = getattr(form, "encode_line", None)
    if tell is None:
        return form.encode_text(tokenizer, text, speaker)
    ids: list[int] = tell(tokenizer, text, speaker, language=language, instruct=instruct)
    return ids


def byte_tokenizer(special: Mapping[str, int], *, size: int, bos: str, eos: str, pad: str) -> PreTrainedTokenizerBase:
    """Build a tokenizer of ``size`` ids: 0 to 255 are bytes, the special ones have their ids, no text gives the others.

    Args:
        special: Id of each control token by its name.
        size: Ids in all.
        bos: Name of the token before a text.
        eos: Name of the one that ends it.
        pad: Name of the one that fills batches.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # A name for every id, so that the table has no holes.
    names = {index: f"<|unused_{index}|>" for index in range(256, size)} | {i: name for name, i in special.items()}
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary | {name: index for index, name in names.items()}, merges=[]))
    # No splitting at words: one byte is one token wherever it stands.
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=pad, clean_up_tokenization_spaces=False
    )


def checked_tokenizer(source: str, special: Mapping[str, int], *, model: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder or the hub.

    Args:
        source: A folder or a hub name.
        special: Id that each control token must have, by its name.
        model: What it is for, for messages.

    Raises:
        ConfigError: if it cannot be loaded, or a control token has another id.
    """
    from transformers import AutoTokenizer, PretrainedConfig

    failed = f"No tokenizer could be loaded from {source!r}:"
    advice = "Give --tokenizer a folder with tokenizer.json, the name of a model you have access to, or 'tiny'."
    with from_hub(source, failed=failed, advice=advice) as cached:
        # Its own files say what it is; the model's config.json beside them would be read and judged as well.
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, config=PretrainedConfig(), local_files_only=cached
        )
    # Ids and not only names: a tokenizer of a relative has the same names elsewhere.
    known = tokenizer.get_vocab()
    wrong = [
        f"{name} (needs {index}, has {known.get(name)})" for name, index in special.items() if known.get(name) != index
    ]
    if wrong:
        raise ConfigError(f"The tokenizer {source!r} is not {model}'s: {', '.join(wrong)}. Give {model}'s own.")
    return tokenizer
