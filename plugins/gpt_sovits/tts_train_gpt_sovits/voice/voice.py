"""A GPT and a SoVITS that speak: a sentence and a reference to sound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.features.bert import BertFeatures
from tts_train_gpt_sovits.networks.gpt.generate import SamplingOptions, generate
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import BERT_WIDTH
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.encode import SAMPLE_RATE, text_features
from tts_train_gpt_sovits.text import Spoken
from tts_train_gpt_sovits.voice.reference import Reference


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
class Said:
    """A spoken sentence."""

    sound: Tensor
    """float32 (samples,) at 32 kHz, on the CPU."""
    codes: int
    """Semantic tokens that were drawn."""
    ended: bool
    """Whether the network ended the sentence; False where it was cut off."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Both networks in evaluation mode on one device."""

    gpt: GptNetwork
    sovits: SovitsNetwork
    bert: BertFeatures | None
    """Features of Chinese text; None where none is spoken."""

    @property
    def sample_rate(self) -> int:
        """Samples a second of what is spoken."""
        return SAMPLE_RATE

    @torch.inference_mode()
    def speak(
        self,
        said: Spoken,
        reference: Reference,
        *,
        sampling: SamplingOptions = SamplingOptions(),
        delivery: Delivery = Delivery(),
        generator: torch.Generator | None = None,
    ) -> Said:
        """Speak one sentence in the voice of the reference.

        Args:
            said: The sentence as phonemes.
            reference: What it continues.
            sampling: How semantic tokens are drawn.
            delivery: How they become sound.
            generator: Source of chance, on the networks' device; torch's own when None.
        """
        device = self.gpt.head.weight.device
        target = torch.tensor(said.ids)
        bert = text_features([said], self.bert)[0]
        features = torch.zeros(len(target), BERT_WIDTH) if bert is None else bert.cpu().float()
        drawn = generate(
            self.gpt,
            torch.cat([reference.phonemes, target]).to(device),
            reference.codes.to(device),
            bert=torch.cat([reference.bert, features]).to(device),
            options=sampling,
            generator=generator,
        )
        if not len(drawn.codes):
            return Said(sound=torch.zeros(0), codes=0, ended=drawn.ended)
        sound = self.sound(drawn.codes, target, reference, delivery=delivery, generator=generator)
        return Said(sound=sound, codes=len(drawn.codes), ended=drawn.ended)

    @torch.inference_mode()
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
        device = self.gpt.head.weight.device
        sound = self.sovits.decode(
            codes[None].to(device),
            phonemes[None].to(device),
            [reference.spectrogram.to(device)],
            speakers=[] if reference.speaker is None else [reference.speaker.to(device)],
            noise_scale=delivery.noise_scale,
            speed=delivery.speed,
            generator=generator,
        )
        return sound[0, 0].float().cpu()
