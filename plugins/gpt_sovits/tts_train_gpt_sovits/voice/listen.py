"""What the stages say while they train: held-out recordings, and texts of the user's."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_train.contract import ConfigError, Passage, SampleVoice, Sound, StageModule, Uttered, take_turns
from tts_train_gpt_sovits.networks.gpt.generate import MAX_CODES, SamplingOptions
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.encoders import TEXT_STYLE
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.encode import SAMPLE_RATE, front_end
from tts_train_gpt_sovits.preparing.prepared import HeldOut
from tts_train_gpt_sovits.signal.audio import FULL_SCALE
from tts_train_gpt_sovits.signal.versions import CODES_PER_SECOND, find_version
from tts_train_gpt_sovits.text import FrontEnd, SpokenText
from tts_train_gpt_sovits.voice.reference import Reference, reference_from_data, reference_from_row
from tts_train_gpt_sovits.voice.voice import GptSovitsVoice, Ready

USUAL_ROWS = 200
"""Rows from which the usual length of a text is learned."""
_WITH_FEATURES = "zh"
_USUAL_SECONDS, _FRAMES_PER_CODE = 10, 2
NEEDS_GPT = (
    "This stage makes sound of semantic tokens, and a text needs a GPT that makes them: name one with --model.gpt (a "
    "run, a GPT file, or a released version such as v2), or let --listen.sentences be a number of "
    "validation recordings."
)

logger = logging.getLogger(__name__)


def required(held_out: HeldOut | None) -> HeldOut:
    """Return the rows of a validation set.

    Raises:
        ConfigError: if there are none.
    """
    if held_out is None or not len(held_out.rows):
        raise ConfigError("This run has no validation set, so there is nothing to speak (--data.val_share).")
    return held_out


def check_texts(texts: Sequence[str], held_out: HeldOut | None) -> None:
    """Read texts as a stage's voice will, before anything is trained.

    Args:
        texts: What is to be spoken.
        held_out: Validation rows; nothing is checked without any, nor where their set does not say its version.

    Raises:
        ConfigError: if they are Chinese, which would need one more network.
        TTSTrainError: if one cannot be read.
    """
    version = None if held_out is None or not len(held_out.rows) else held_out.data.settings.get("version")
    if held_out is None or version is None:
        return
    language, reader = reference_from_data(str(held_out.data.path)).language, front_end(version)
    for text in texts:
        _read(text, language, reader)


def _read(text: str, language: str, reader: FrontEnd) -> SpokenText:
    if language == _WITH_FEATURES:
        raise ConfigError("Chinese texts need a network of text features: let --listen.sentences be a number.")
    return reader.speak(text, language)


class StageVoice(SampleVoice, ABC):
    """Speaks with networks as they stand; each speaker's texts continue an utterance of the data.

    Args:
        module: What is in training, for its precision.
        voice: Networks that speak together, those in training among them.
        held_out: Validation rows.

    """

    tokens_per_second = float(CODES_PER_SECOND)

    def __init__(self, module: StageModule, voice: GptSovitsVoice, held_out: HeldOut) -> None:
        self._module = module
        self._voice = voice
        self._held = held_out
        data = str(held_out.data.path)
        self._ready = Ready(voice=voice, front_end=front_end(voice.version), networks=None, data=data, given=None)
        self._targets: dict[str, tuple[Tensor, Tensor | None]] = {}

    def held_out(self, count: int) -> Sequence[Passage]:
        """Return validation rows, languages in turn, with their recordings."""
        places = take_turns(self._held.languages, count)
        return [self._passage(f"utterance-{n + 1}", int(self._held.rows[place])) for n, place in enumerate(places)]

    def passage(self, name: str, text: str) -> Passage:
        """Return a text in the language of the data's reference.

        Raises:
            ConfigError: if it is Chinese, which would need one more network.
            TTSTrainError: if it cannot be read.
        """
        language = self._ready.language
        phonemes = torch.tensor(_read(text, language, self._ready.front_end).ids)
        self._targets[name] = phonemes, None
        return Passage(name=name, text=text, language=language, tokens=self._usual_pace() * len(phonemes))

    def speak(self, passage: Passage, *, seed: int, max_tokens: int) -> Uttered:
        """Continue the speaker's reference with a passage's phonemes, and sound the codes."""
        reference, chance = self._ready.reference_for(passage.speaker), self._voice.chance(seed)
        phonemes, features = self._targets[passage.name]
        sampling = SamplingOptions(max_codes=min(max_tokens, MAX_CODES))
        with self._module.training_precision():
            # In the precision of training, for that is the network which is heard; the sound is made in float32.
            said = self._voice.draw(phonemes, features, reference, sampling=sampling, generator=chance)
        sound = self._sound(said.codes, phonemes, reference, chance)
        return Uttered(sound=sound, tokens=said.codes.tolist(), ended=said.ended)

    def _passage(self, name: str, row: int) -> Passage:
        columns = self._held.data.row(row)
        own = reference_from_row(columns, name)
        wave = columns["wave"].astype(np.float32) / FULL_SCALE
        speaker = self._remember(name, own, columns.get("speaker"))
        return Passage(
            name=name,
            text=str(columns.get("text") or ""),
            id=columns.get("id"),
            speaker=speaker,
            language=columns.get("language"),
            tokens=len(own.codes),
            recording=Sound(wave, SAMPLE_RATE),
            ceiling=self._ceiling(own, speaker, torch.from_numpy(wave)),
        )

    def _remember(self, name: str, own: Reference, speaker: str | None) -> str | None:
        """Keep what a recording is said from, and return whose reference it continues."""
        self._targets[name] = own.phonemes, own.bert
        return speaker

    @abstractmethod
    def _ceiling(self, own: Reference, speaker: str | None, wave: Tensor) -> Sound | None:
        """Return what a recording sounds like at best."""

    def _sound(self, codes: Tensor, phonemes: Tensor, reference: Reference, chance: torch.Generator) -> Sound:
        if not len(codes):
            return Sound(np.zeros(0, np.float32), self._voice.sample_rate)
        made = self._voice.sound(codes, phonemes, reference, generator=chance)
        return Sound(made.numpy(), self._voice.sample_rate)

    def _usual_pace(self) -> float:
        """Return the codes of a phoneme, the median over some rows."""
        data = self._held.data
        count = min(len(data), USUAL_ROWS)
        sizes = [data.rows.list_lengths(name)[:count] for name in ("codes", "phonemes")]
        # The median: pauses make some clips several times slower.
        return float(np.median(sizes[0] / np.maximum(sizes[1], 1)))


def listening_bytes(sovits: SovitsNetwork | FlowSovitsNetwork, version: str, gpt: GptNetwork | None) -> int:
    """Return the memory that a `SovitsVoice` takes besides the network in training, for a plan.

    Passages are said one after the other, so their number does not matter. They are taken for as long as an utterance
    of a planned batch, and texts for twice that, after which they are cut off.

    Args:
        sovits: The network in training.
        version: Its version.
        gpt: What makes the tokens of texts; None where recordings are sounded.
    """
    if gpt is None:
        return sound_bytes(sovits, version, _USUAL_SECONDS)
    seconds = 2 * _USUAL_SECONDS + 1
    weights = sum(parameter.nbytes for parameter in gpt.parameters())
    tokens = (seconds + 2 * _USUAL_SECONDS) * CODES_PER_SECOND  # of the prompt, too, with the phonemes of both
    kept = 2 * gpt.config.layers * gpt.config.width * tokens * 4
    return weights + max(kept, sound_bytes(sovits, version, seconds))


def sound_bytes(sovits: SovitsNetwork | FlowSovitsNetwork, version: str, seconds: float) -> int:
    """Return the memory that making so many seconds of sound takes beside the weights, in float32.

    The factors count the tensors that live at the peak; they were found with the profiler on a CPU.
    """
    codes = round(seconds * CODES_PER_SECOND)
    if isinstance(sovits, SovitsNetwork):
        samples, widest = _FRAMES_PER_CODE * codes, 0
        layers: Any = sovits.generator.upsamplings
        for layer in layers:
            samples *= layer.stride[0]
            widest = max(widest, layer.out_channels * samples)
        # In a residual block: the blocks' sum, their input, the block's own, two convolutions and what they make.
        return int(4 * (6 * widest + 11 * samples))
    mel = find_version(version).mel
    frames = round(_FRAMES_PER_CODE * codes * sovits.mel_per_feature)
    width = sovits.matching.estimator.input.out_features
    convolution: Any = sovits.refine.stack.gated[0]  # its weight is made of a length and a direction
    refined = 12 * TEXT_STYLE * frames + 2 * convolution.weight.numel()
    estimated = max(9.4 * TEXT_STYLE, 8 * width + 1260) * frames
    phases = 14.6 * (mel.n_fft // 2 + 1) * frames  # seven complex spectrograms in an iteration of Griffin and Lim
    return int(4 * max(refined, estimated, phases))


class GptVoice(StageVoice):
    """A GPT in training: its codes, through the SoVITS that made its data's tokens."""

    def _ceiling(self, own: Reference, speaker: str | None, wave: Tensor) -> Sound:
        """Return what that SoVITS makes of the recording's own tokens."""
        del wave
        return self._sound(own.codes, own.phonemes, self._ready.reference_for(speaker), self._voice.chance(0))


class SovitsVoice(StageVoice):
    """A SoVITS in training: a recording's own tokens in its own voice, or those of a GPT for a text."""

    def __init__(self, module: StageModule, voice: GptSovitsVoice, held_out: HeldOut) -> None:
        super().__init__(module, voice, held_out)
        self._own: dict[str, Reference] = {}

    def passage(self, name: str, text: str) -> Passage:
        """Return a text; a GPT makes its tokens.

        Raises:
            ConfigError: if no GPT was named.
        """
        if self._voice.gpt is None:
            raise ConfigError(NEEDS_GPT)
        return super().passage(name, text)

    def speak(self, passage: Passage, *, seed: int, max_tokens: int) -> Uttered:
        """Sound a recording's own tokens, or speak a text."""
        own = self._own.get(passage.name)
        if own is None:
            return super().speak(passage, seed=seed, max_tokens=max_tokens)
        sound = self._sound(own.codes, own.phonemes, own, self._voice.chance(seed))
        if not np.isfinite(sound.samples).all():
            logger.warning("%s cannot be written: the network's sound is not finite.", passage.name)
            sound = Sound(np.zeros(0, np.float32), sound.sample_rate)
        # Numbered instead of named: that a recording's tokens repeat is nothing that the network did.
        return Uttered(sound=sound, tokens=range(len(own.codes)), ended=True)

    def _remember(self, name: str, own: Reference, speaker: str | None) -> str | None:
        self._own[name] = own
        return speaker

    def _ceiling(self, own: Reference, speaker: str | None, wave: Tensor) -> Sound | None:
        """Return what the mel spectrogram of a flow-matching version leaves of the recording."""
        del own, speaker
        made = self._voice.ceiling(wave)
        return None if made is None else Sound(made.numpy(), self._voice.sample_rate)
