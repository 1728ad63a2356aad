"""A voice with everything loaded: for one text or for many, with a reference for each speaker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.preparing.encode import Networks
from tts_train_gpt_sovits.text import FrontEnd
from tts_train_gpt_sovits.voice.reference import Reference, reference_from_data, reference_from_file
from tts_train_gpt_sovits.voice.voice import GptSovitsVoice


@dataclass(kw_only=True)
class Ready:
    """What speaking needs."""

    voice: GptSovitsVoice
    front_end: FrontEnd
    networks: Networks | None
    """What reads recordings and Chinese text; None where neither is needed."""
    data: str | None
    """Prepared set that the voice was trained on."""
    given: tuple[Path, str, str] | None
    """A recording of the user's to continue, what is said in it, and its language."""
    trained: tuple[str, ...] = ()
    """Languages of the voice's data, as far as they are known."""
    _references: dict[str | None, Reference] = field(default_factory=dict)

    @property
    def language(self) -> str:
        """Language of the voice's own reference."""
        return self.reference_for(None).language

    def reference_for(self, speaker: str | None) -> Reference:
        """Return what a speaker's lines continue: the user's recording, else an utterance of the training data.

        Raises:
            ConfigError: if there is neither.
        """
        key = None if self.given else speaker
        if key not in self._references:
            self._references[key] = self._find(key)
        return self._references[key]

    def resound(self, recording: Path, text: str, language: str) -> Tensor:
        """Return a recording, float32 (samples,), through semantic tokens and back, in its own voice."""
        assert self.networks is not None
        reference = reference_from_file(
            recording, text, language, front_end=self.front_end, networks=self.networks, any_length=True
        )
        return self.voice.sound(reference.codes, reference.phonemes, reference, generator=self.voice.chance(0))

    def _find(self, speaker: str | None) -> Reference:
        if self.given is not None and self.networks is not None:
            file, text, language = self.given
            return reference_from_file(file, text, language, front_end=self.front_end, networks=self.networks)
        if self.data is None:
            raise ConfigError(
                "Nothing says what this voice was trained on. Give one to continue: --reference FILE.wav "
                "--reference_text '...' --language L, or --voice with a folder that prepare wrote."
            )
        return reference_from_data(self.data, speaker=speaker)
