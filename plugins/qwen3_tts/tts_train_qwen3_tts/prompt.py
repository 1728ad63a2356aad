"""What stands before the sound: instruction, role, language and speaker, then the whole text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tts_train.contract import DataError
from tts_train.corpus import says_nothing
from tts_train.families.token_lm import IdRow, PromptFormat
from tts_train_qwen3_tts.layout import LAYOUT, NOTHINK, THINK, THINK_BOS, THINK_EOS, Qwen3TTSLayout

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm import Ids

LANGUAGES = {
    "english": 2050,
    "german": 2053,
    "spanish": 2054,
    "chinese": 2055,
    "japanese": 2058,
    "french": 2061,
    "sichuan_dialect": 2062,
    "korean": 2064,
    "russian": 2069,
    "italian": 2070,
    "portuguese": 2071,
    "beijing_dialect": 2074,
}
"""Row of the codec's table that names a language, in the released models."""
_CODES = {
    "en": "english",
    "de": "german",
    "es": "spanish",
    "zh": "chinese",
    "ja": "japanese",
    "fr": "french",
    "ko": "korean",
    "ru": "russian",
    "it": "italian",
    "pt": "portuguese",
}
_ROLE, _TURN = "<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Qwen3TTSPrompt(PromptFormat):
    """Rows and prompts in upstream's layout with the whole text first ("non streaming").

    Text ids are positions from the row's first to the last of the text, so that a row and a prompt begin alike.
    """

    layout: Qwen3TTSLayout = LAYOUT
    languages: Mapping[str, int] = field(default_factory=lambda: LANGUAGES)
    """Row of each language's tag."""
    speakers: Mapping[str, int] = field(default_factory=dict)
    """Id of the position that names each speaker, by the name in lower case."""
    dialects: Mapping[str, str] = field(default_factory=dict)
    """The language whose tag a speaker gets in place of Chinese or none, by the name in lower case."""

    def encode_text(self, tokenizer: PreTrainedTokenizerBase, text: str, speaker: str | None = None) -> list[int]:
        """Return the positions of a text without a language or an instruction."""
        return self.encode_line(tokenizer, text, speaker)

    def encode_line(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text: str,
        speaker: str | None = None,
        *,
        language: str | None = None,
        instruct: str | None = None,
    ) -> list[int]:
        """Return the positions of a text, said by a speaker in a language as an instruction asks.

        A language that the model has no tag for, and ``auto``, get none.

        Raises:
            DataError: if the text says nothing or names control tokens, or the speaker is not known.
        """
        if says_nothing(text):
            raise DataError("The text is empty. Give what is to be said.")
        # A newline would merge with that of the role, and both would be other tokens than the model knows.
        said = _encoded(tokenizer, f"{_ROLE}{text.strip()}{_TURN}")
        role, turn = _encoded(tokenizer, _ROLE), _encoded(tokenizer, _TURN)
        body = said[len(role) : len(said) - len(turn)]
        if said[: len(role)] != role or said[-len(turn) :] != turn:
            raise DataError(f"The text {text!r} is read together with the marks around it. Change its first letters.")
        asked = [] if says_nothing(instruct or "") else self._asked(tokenizer, str(instruct))
        self._refuse_control(text, body)
        return self.positions(
            body, role=role, instruct=asked, language=self._tag(language, speaker), speaker=self._named(speaker)
        )

    def positions(
        self,
        body: Sequence[int],
        *,
        role: Sequence[int],
        instruct: Sequence[int] = (),
        language: int | None = None,
        speaker: int | None = None,
    ) -> list[int]:
        """Return the positions up to the last one of the text.

        Args:
            body: Text rows of what is read out.
            role: Text rows of the role.
            instruct: Text rows of the whole instruction.
            language: Row of the language's tag; None for none.
            speaker: Id of the speaker's position; None for none.
        """
        layout = self.layout
        # The tags' names are upstream's; a language stands between the two marks.
        tags = (NOTHINK, THINK_BOS, THINK_EOS) if language is None else (THINK, THINK_BOS, None, THINK_EOS)
        rows = [language if tag is None else layout.row(tag) for tag in tags]
        prefix = [layout.item(row) for row in rows if row is not None] + ([] if speaker is None else [speaker])
        return [*instruct, *role, *prefix, layout.text_begins, *(layout.spoken_base + row for row in body)]

    def inference_prompt(self, text_ids: ArrayLike) -> Ids:
        """Return the ids after which the model speaks."""
        # The first frame is said from here, after the whole text and its end.
        ends = [self.layout.spoken_base + self.layout.tts_eos, self.layout.start_of_speech]
        return np.concatenate([np.asarray(text_ids, dtype=np.int64), ends])

    def speech_row(self, text_ids: ArrayLike, audio_ids: ArrayLike) -> IdRow:
        """Return a training row."""
        prompt = self.inference_prompt(text_ids)
        audio = np.asarray(audio_ids, dtype=np.int64)
        return IdRow(np.concatenate([prompt, audio, [self.layout.end_of_speech]]), len(prompt))

    def zero_shot_prompt(self, references: Iterable[tuple[ArrayLike, ArrayLike]], text_ids: ArrayLike) -> Ids:
        """Return a prompt for a voice that is continued: its texts before the text to say, then its frames."""
        head, body = self._divided(text_ids)
        pairs = [(self._divided(text)[1], np.asarray(audio, dtype=np.int64)) for text, audio in references]
        texts = np.concatenate([head, *(text for text, _ in pairs), body])
        return np.concatenate([self.inference_prompt(texts), *(audio for _, audio in pairs)])

    def _divided(self, text_ids: ArrayLike) -> tuple[Ids, Ids]:
        """Return what stands before the text that is read out, and that."""
        ids = np.asarray(text_ids, dtype=np.int64)
        begins = int(np.argmax(ids == self.layout.text_begins)) + 1
        return ids[:begins], ids[begins:]

    def _asked(self, tokenizer: PreTrainedTokenizerBase, instruct: str) -> list[int]:
        self._refuse_control(instruct, _encoded(tokenizer, instruct))
        return _encoded(tokenizer, f"<|im_start|>user\n{instruct.strip()}<|im_end|>\n")

    def _refuse_control(self, text: str, ids: Sequence[int]) -> None:
        control = min(self.layout.begin_of_text, self.layout.text_pad)
        if any(index >= control for index in ids):
            raise DataError(f"The text {text!r} names control tokens. Remove them: they mark turns and sound.")

    def _named(self, speaker: str | None) -> int | None:
        if speaker is None and len(self.speakers) == 1:
            # A voice alone need not be named, and one without a name cannot be.
            return next(iter(self.speakers.values()))
        if speaker is None or not self.speakers:
            return self.speakers.get("")
        if speaker.lower() not in self.speakers:
            known = ", ".join(sorted(filter(None, self.speakers))[:10]) or "none by name"
            raise DataError(f"The model has no speaker {speaker!r}. It knows {known}.")
        return self.speakers[speaker.lower()]

    def _tag(self, language: str | None, speaker: str | None) -> int | None:
        """Return the row of the tag: that of the speaker's dialect where it speaks Chinese or nothing is asked for."""
        name = (language or "auto").lower()
        # Corpora name languages by code and perhaps region, as in en-GB.
        name = _CODES.get(name.replace("_", "-").partition("-")[0], name)
        dialect = self.dialects.get((speaker or "").lower())
        if dialect and name in ("auto", "chinese"):
            name = dialect
        elif name.endswith("_dialect"):
            raise DataError(f"{name} is chosen by a speaker who has it, not as a language. Give chinese.")
        return self.languages.get(name)


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
