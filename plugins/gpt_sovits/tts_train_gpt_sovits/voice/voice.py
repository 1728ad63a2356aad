"""A GPT and a SoVITS that speak: a sentence and a reference to sound, and all that one text or many need for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.features.bert import BertFeatures
from tts_train_gpt_sovits.networks.gpt.generate import SamplingOptions, Speech, generate
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.encode import SAMPLE_RATE, Networks, text_features
from tts_train_gpt_sovits.signal.mel import denormalise, mel_to_wave, wave_log_mel
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH, find_version
from tts_train_gpt_sovits.text import FrontEnd, SpokenText
from tts_train_gpt_sovits.voice.reference import Reference, reference_from_data, reference_from_file

FLOW_STEPS = 32
"""Steps from noise to a mel spectrogram, as many as upstream's inference takes."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How semantic tokens become sound."""

    noise_scale: float = 0.5
    """Share of the prior's deviation; lower is steadier."""
    speed: float = 1.0
    """How much faster than the tokens say."""

    def __post_init__(self) -> None:
        if self.noise_scale < 0 or not 0.1 <= self.speed <= 10:
            raise ConfigError(
                f"--noise_scale must be 0 or more and --speed from 0.1 to 10; {self.noise_scale} and {self.speed} "
                "were given."
            )


@dataclass(frozen=True, kw_only=True)
class SpokenSentence:
    """A spoken sentence."""

    sound: Tensor
    """float32 (samples,) at 32 kHz, on the CPU."""
    codes: int
    """Semantic tokens that were drawn."""
    ended: bool
    """Whether the network ended the sentence; False where it was cut off."""


@dataclass(frozen=True, kw_only=True)
class GptSovitsVoice:
    """Both networks in evaluation mode on one device."""

    gpt: GptNetwork | None
    """Makes semantic tokens of text; None where they are given."""
    sovits: SovitsNetwork | FlowSovitsNetwork
    """Makes sound of them; of a flow-matching version by way of a mel spectrogram, whose phases are estimated."""
    version: str
    """Version of ``sovits``."""
    bert: BertFeatures | None = None
    """Features of Chinese text; None where none is spoken."""

    @property
    def sample_rate(self) -> int:
        """Samples a second of what is spoken."""
        return find_version(self.version).mel.sample_rate

    @property
    def device(self) -> torch.device:
        """Where both networks are."""
        # Every kind of SoVITS has this part.
        return self.sovits.feature_projection.weight.device

    def chance(self, seed: int) -> torch.Generator:
        """Return a source of chance for `speak`, `draw` and `sound`."""
        return torch.Generator(self.device).manual_seed(seed)

    @torch.no_grad()
    def speak(
        self,
        said: SpokenText,
        reference: Reference,
        *,
        sampling: SamplingOptions = SamplingOptions(),
        delivery: Delivery = Delivery(),
        generator: torch.Generator | None = None,
    ) -> SpokenSentence:
        """Speak one sentence in the voice of the reference.

        Args:
            said: The sentence as phonemes.
            reference: What it continues.
            sampling: How semantic tokens are drawn.
            delivery: How they become sound.
            generator: Source of chance, on the networks' device; torch's own when None.
        """
        target = torch.tensor(said.ids)
        bert = text_features([said], self.bert)[0]
        features = None if bert is None else bert.cpu().float()
        drawn = self.draw(target, features, reference, sampling=sampling, generator=generator)
        # The decoder cannot take an empty sequence.
        if not len(drawn.codes):
            return SpokenSentence(sound=torch.zeros(0), codes=0, ended=drawn.ended)
        sound = self.sound(drawn.codes, target, reference, delivery=delivery, generator=generator)
        return SpokenSentence(sound=sound, codes=len(drawn.codes), ended=drawn.ended)

    def draw(
        self,
        phonemes: Tensor,
        features: Tensor | None,
        reference: Reference,
        *,
        sampling: SamplingOptions = SamplingOptions(),
        generator: torch.Generator | None = None,
    ) -> Speech:
        """Return the semantic tokens with which phonemes (X,) and text features (X, 1024) continue a reference."""
        assert self.gpt is not None
        device = self.gpt.head.weight.device
        if features is None:
            features = torch.zeros(len(phonemes), BERT_WIDTH)
        return generate(
            self.gpt,
            torch.cat([reference.phonemes, phonemes]).to(device),
            reference.codes.to(device),
            bert=torch.cat([reference.bert, features]).to(device),
            options=sampling,
            generator=generator,
        )

    @torch.no_grad()
    def sound(
        self,
        codes: Tensor,
        phonemes: Tensor,
        reference: Reference,
        *,
        delivery: Delivery = Delivery(),
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return semantic tokens (N,) of phonemes (X,) as sound, float32 (samples,) on the CPU."""
        device = self.device
        given = codes[None].to(device), phonemes[None].to(device)
        spectrogram = reference.spectrogram.to(device)
        if isinstance(self.sovits, FlowSovitsNetwork):
            return self._from_mel(self._flow(self.sovits, *given, spectrogram, delivery.speed, generator))
        sound = self.sovits.decode(
            *given,
            [spectrogram],
            speakers=[] if reference.speaker is None else [reference.speaker.to(device)],
            noise_scale=delivery.noise_scale,
            speed=delivery.speed,
            generator=generator,
        )
        return sound[0, 0].float().cpu()

    @torch.no_grad()
    def ceiling(self, recording: Tensor) -> Tensor | None:
        """Return what a flow-matching version's mel spectrogram leaves of samples (N,) at 32 kHz; else None."""
        if not isinstance(self.sovits, FlowSovitsNetwork):
            return None
        wave = recording[None].to(self.device)
        if self.sample_rate != SAMPLE_RATE:
            from torchaudio.functional import resample

            wave = resample(wave, SAMPLE_RATE, self.sample_rate)
        return self._from_mel(wave_log_mel(wave, find_version(self.version).mel))

    def _flow(
        self,
        network: FlowSovitsNetwork,
        codes: Tensor,
        phonemes: Tensor,
        spectrogram: Tensor,
        speed: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return the log mel spectrogram (1, mels, T) of semantic tokens, in the style of a reference."""
        style = network.style_encoder(spectrogram, torch.ones_like(spectrogram[:, :1]))
        content = network.content(codes, phonemes, style, speed=speed)
        lengths = torch.tensor([content.shape[-1]], device=content.device)
        # Without a prompt of mel frames: the reference gives its style alone, in one piece, where upstream continues
        # the reference chunk by chunk.
        known = content.new_zeros(1, find_version(self.version).mel.n_mels, 0)
        mel = network.matching.sample(content, lengths, known, steps=FLOW_STEPS, generator=generator)
        return denormalise(mel)

    def _from_mel(self, log_mel: Tensor) -> Tensor:
        return mel_to_wave(log_mel, find_version(self.version).mel)[0].float().cpu()


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
