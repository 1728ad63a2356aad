"""What a model in training says: held-out texts, through the codec that made its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tts_train.contract.voice import Passage, Uttered, take_turns
from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.generate import Continued
from tts_train.families.token_lm.model import HELD_TO
from tts_train.families.token_lm.speaking.voice import TokenVoice
from tts_train.sound import Sound

if TYPE_CHECKING:
    from tts_train.contract.module import StageModule
    from tts_train.families.token_lm.data.held_out import HeldRow, HeldTexts
    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import Codec, TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork

USUAL_ROWS = 200
"""Rows from which the usual length of a text is learned."""


class TrainingVoice:
    """Speaks with a module's network as it stands.

    Args:
        token_lm: What kind of model it is.
        module: The module in training, attached to its trainer and data.
        network: What of it speaks.

    Raises:
        ConfigError: if the run has no prepared data, or their codec is not on this machine.
    """

    def __init__(self, token_lm: TokenLM, module: StageModule, network: TokenNetwork) -> None:
        self._layout, self._module = token_lm.layout, module
        self.tokens_per_second = token_lm.layout.tokens_per_second
        """Audio ids of a second of sound."""
        data: Any = module.stage_data
        held = None if data is None else data.held_out()
        if held is None:
            raise ConfigError("This run has no validation set, so there is nothing to speak (--data.val_share).")
        self._held: HeldTexts = held
        self._settings: Mapping[str, Any] = held.facts.get("settings") or {}
        self._voice = TokenVoice(
            token_lm=token_lm,
            lm=network.lm,
            codec=local_codec(token_lm, self._settings.get("codec"), module.device),
            sampling=replace(token_lm.sampling, constrain=HELD_TO[network.head.softmax]),
        )
        self._prompts: dict[str, Ids] = {}

    def held_out(self, count: int) -> Sequence[Passage]:
        """Return validation rows, languages in turn, with what their codec leaves of them."""
        places = take_turns(self._held.languages, count)
        # Names count the places in what is heard, so that figures of a run can be compared step by step.
        return [self._passage(number + 1, self._held.row(place)) for number, place in enumerate(places)]

    def passage(self, name: str, text: str) -> Passage:
        """Return a text, in the voice that the data have most of where they name voices.

        Raises:
            ConfigError: if the data do not say which tokenizer made them.
            DataError: if the text names control tokens.
        """
        tokenizer = self._settings.get("tokenizer")
        if tokenizer is None:
            raise ConfigError(f"{self._held.path} does not name its tokenizer: let --listen.sentences be a number.")
        named = self._settings.get("voice_prefix")
        speaker = next(iter(self._held.speakers), None) if named else None
        voice = replace(self._voice, tokenizer=self._voice.token_lm.load_tokenizer(tokenizer))
        self._prompts[name] = voice.prompts([text], speaker, language=self._language())[0]
        return Passage(name=name, text=text, speaker=speaker, tokens=self._usual_pace() * len(text))

    def speak(self, passage: Passage, *, seed: int, max_tokens: int) -> Uttered:
        """Continue a passage's prompt with the weights as they are."""
        (uttered,) = self.speak_many([passage], seeds=[seed], max_tokens=[max_tokens])
        return uttered

    def speak_many(
        self, passages: Sequence[Passage], *, seeds: Sequence[int], max_tokens: Sequence[int]
    ) -> Sequence[Uttered]:
        """Continue passages' prompts in as few batches as the card has room for."""
        prompts = [self._prompts[passage.name] for passage in passages]
        room = self._voice.lm.config.max_position_embeddings
        # A network that does not stop yet must not run out of positions, which would be an error.
        limits = [
            min(limit, self._layout.room(prompt, room)) for limit, prompt in zip(max_tokens, prompts, strict=True)
        ]
        with self._module.training_precision():
            said = self._voice.say(prompts, seeds=seeds, max_new_tokens=limits)
        return [self._uttered(one) for one in said]

    def _uttered(self, said: Continued) -> Uttered:
        tokens = [token for token in said.ids if self._layout.slot_of(token) >= 0]
        return Uttered(sound=self._sound(said.content.codes), tokens=tokens, ended=said.content.ended)

    def _passage(self, number: int, row: HeldRow) -> Passage:
        name = f"utterance-{number}"
        self._prompts[name] = row.prompt
        return Passage(
            name=name,
            text=str(row.text or row.id or name),
            id=row.id,
            speaker=row.speaker,
            language=row.language,
            tokens=len(row.audio),
            ceiling=self._sound(self._layout.read_generated(row.audio).codes),
        )

    def _sound(self, codes: Any) -> Sound:  # noqa: ANN401 - levels of codes
        return Sound(self._voice.sound(codes, seed=0).numpy(), self._voice.codec.sample_rate)

    def _language(self) -> str | None:
        """Return the language that the data have most of, where they name languages."""
        return next(iter(self._held.facts.get("languages") or ()), None)

    def _usual_pace(self) -> float:
        """Return the tokens of a character, the median over some rows that have their text."""
        paces = [len(row.audio) / len(row.text) for row in self._held.spoken(USUAL_ROWS) if row.text]
        if not paces:
            raise ConfigError(f"{self._held.path} has no texts: let --listen.sentences be a number.")
        # The median: a few rows with silence or wrong texts must not stretch all limits.
        return float(np.median(paces))


def local_codec(
    token_lm: TokenLM,
    source: str | None,
    device: Any,  # noqa: ANN401 - Lightning's device
    *,
    instead: str = ", or set --listen.sentences 0",
) -> Codec:
    """Load a codec from this machine.

    Args:
        token_lm: What kind of model it is.
        source: A folder or hub name; None is that of the released models.
        device: Where it will compute.
        instead: What else is to be done where it is not here, as the end of a sentence.

    Raises:
        ConfigError: if it would have to be downloaded, or nothing says which one it is.
    """
    from huggingface_hub import try_to_load_from_cache

    name = source or token_lm.codec
    named = "/" in name and not Path(name).exists()
    # Training must not begin a download that may fail hours into a run.
    if named and not isinstance(try_to_load_from_cache(name, token_lm.codec_file), str):
        raise ConfigError(
            f"The codec {name} is not on this machine, and training downloads nothing to be heard. Run any command "
            f"that uses it once (tts-train synth){instead}."
        )
    return token_lm.load_codec(name, device=device)
