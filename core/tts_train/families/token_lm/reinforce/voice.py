"""A network in training that says texts: to be heard, and to draw the takes that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tts_train.contract.voice import Passage, SampleVoice, Uttered, take_turns
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.model import HELD_TO, Sampling
from tts_train.families.token_lm.reinforce.data import longest_take
from tts_train.families.token_lm.speaking.drawing import take_of
from tts_train.families.token_lm.speaking.listening import local_codec
from tts_train.families.token_lm.speaking.voice import TokenVoice
from tts_train.sound import Sound

if TYPE_CHECKING:
    from tts_train.contract.jobs import Drawn
    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork
    from tts_train.families.token_lm.reinforce.data import PromptData
    from tts_train.scoring.sentences import TextRow


class TextVoice(SampleVoice):
    """Says the texts of a run with the network as it stands.

    Args:
        token_lm: What kind of model it is.
        network: What of it speaks.
        data: The texts.
        device: Where the codec computes.

    Raises:
        ConfigError: if nothing says which tokenizer the model has, or its codec is not on this machine.
    """

    def __init__(self, token_lm: TokenLM, network: TokenNetwork, data: PromptData, device: Any) -> None:  # noqa: ANN401
        self._data, self._layout = data, token_lm.layout
        settings = data.facts.get("settings") or {}
        if settings.get("tokenizer") is None:
            raise ConfigError(
                "Nothing says which tokenizer the model has. Give a model or a run of yours as --model.init_from."
            )
        spoken = replace(token_lm.sampling, constrain=HELD_TO[network.head.softmax])
        self._voice = TokenVoice(
            token_lm=token_lm,
            lm=network.lm,
            # Takes are measured as sound, so nothing does without it.
            codec=local_codec(token_lm, settings.get("codec"), device, instead=""),
            sampling=spoken,
            tokenizer=token_lm.load_tokenizer(settings["tokenizer"]),
        )
        # As training sees it: the log-probability in the ratio is that with which an id was drawn.
        plain = Sampling(temperature=1, top_p=1, top_k=0, repetition_penalty=1, constrain=spoken.constrain)
        self._plain = replace(self._voice, sampling=plain)
        # Only rows that named their speaker taught a name.
        names = data.facts.get("speakers") or ()
        self._speakers = list(names) if settings.get("voice_prefix") else []
        self._languages = list(data.facts.get("languages") or ())
        self._prompts: dict[str, Ids] = {}

    @property
    def tokens_per_second(self) -> float:
        """Audio ids of a second of sound."""
        return self._layout.tokens_per_second

    @property
    def slots(self) -> int:
        """Audio ids of a frame."""
        return self._layout.slots

    def prompt(self, row: TextRow) -> Ids:
        """Return the ids after which a text is said, by its speaker where the model knows one of that name.

        Raises:
            DataError: if the text names control tokens, or takes leave no room for sound.
        """
        # Kept: a text is said in every epoch, and tokenizers are slow.
        if row.id not in self._prompts:
            self._prompts[row.id] = self._encoded(row)
        return self._prompts[row.id]

    def longest(self, prompt: Ids) -> int:
        """Return how many ids a take behind a prompt may have: whole frames."""
        data, layout = self._data, self._layout
        room = layout.room(prompt, self._voice.lm.config.max_position_embeddings)
        fits = longest_take(layout, prompt, data.group, data.max_tokens)
        # Half a frame is no sound, and a network of frames could not read it.
        whole = int(data.most_seconds * layout.tokens_per_second / layout.slots) * layout.slots
        return min(fits, whole, room // layout.slots * layout.slots)

    def draw(self, rows: Sequence[TextRow], *, seeds: Sequence[int]) -> list[Drawn]:
        """Return a take of each text, drawn as training sees it; ids of prompt and take are in its columns."""
        prompts = [self.prompt(row) for row in rows]
        limits = [self.longest(prompt) for prompt in prompts]
        said = self._plain.say(prompts, seeds=seeds, max_new_tokens=limits)
        return [take_of(self._plain, *each) for each in zip(prompts, said, seeds, strict=True)]

    def held_out(self, count: int) -> Sequence[Passage]:
        """Return held-out texts, languages in turn."""
        rows = [self._data.rows[number] for number in self._data.held_rows]
        if not rows:
            raise ConfigError("This run has no validation set, so there is nothing to speak (--data.val_share).")
        chosen = [rows[place] for place in take_turns([row.language for row in rows], count)]
        return [self._passage(f"utterance-{number + 1}", row) for number, row in enumerate(chosen)]

    def passage(self, name: str, text: str) -> Passage:
        """Return a text of the user's as a passage."""
        from tts_train.scoring.sentences import TextRow

        return self._passage(name, TextRow(f"\0{name}", text, None, None))

    def speak(self, passage: Passage, *, seed: int, max_tokens: int) -> Uttered:
        """Say a passage as the model is usually spoken with."""
        (uttered,) = self.speak_many([passage], seeds=[seed], max_tokens=[max_tokens])
        return uttered

    def speak_many(
        self, passages: Sequence[Passage], *, seeds: Sequence[int], max_tokens: Sequence[int]
    ) -> Sequence[Uttered]:
        """Say passages in as few batches as the card has room for."""
        prompts = [self._prompts[str(passage.id)] for passage in passages]
        limits = [min(most, self.longest(prompt)) for most, prompt in zip(max_tokens, prompts, strict=True)]
        said = self._voice.say(prompts, seeds=seeds, max_new_tokens=limits)
        return [self._uttered(each) for each in said]

    def _uttered(self, said: Any) -> Uttered:  # noqa: ANN401 - Continued
        sound = Sound(self._voice.sound(said.content.codes, seed=0).numpy(), self._voice.codec.sample_rate)
        tokens = [token for token in said.ids if self._layout.slot_of(token) >= 0]
        return Uttered(sound=sound, tokens=tokens, ended=said.content.ended)

    def _passage(self, name: str, row: TextRow) -> Passage:
        self.prompt(row)
        return Passage(name=name, text=row.text, id=row.id, speaker=row.speaker, language=row.language)

    def _encoded(self, row: TextRow) -> Ids:
        # A text may name anybody; a name that the model never saw would only confuse it.
        speaker = row.speaker if row.speaker in self._speakers else next(iter(self._speakers), None)
        language = row.language if row.language in self._languages else next(iter(self._languages), None)
        prompt = self._voice.prompts([row.text], speaker, language=language)[0]
        if self.longest(prompt) < self._layout.slots:
            raise DataError(
                f"The takes of {row.id!r} leave no room for sound: --data.max_tokens {self._data.max_tokens} holds "
                f"{self._data.group} takes and the {len(np.asarray(prompt))} ids of their prompt. Give more, or a "
                "smaller --model.group."
            )
        return prompt
