"""What a validation draws and writes: slices and noise that stay the same, and utterances to listen to."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from tts_train.contract.voice import Passage
from tts_train.datasets.split import place
from tts_train.sound import Sound
from tts_train.training.listen.samples import keep_known, keep_said
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.signal.mel import GAN_MEL
from tts_train_gpt_sovits.stages.sovits.batch import FRAMES_PER_CODE, HOP, SovitsBatch

_NOISE_SCALE = 0.5  # as inference draws

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spoken:
    """What utterances are spoken from."""

    network: SovitsNetwork
    batch: SovitsBatch
    magnitudes: Tensor
    """Spectrogram (B, 1025, F)."""
    wave: Tensor
    """Samples (B, F * 640)."""


def fixed_draws(batch: SovitsBatch, *, latent: int, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the slices' starts (B,) and the posterior's noise (B, latent, F) that utterances always have.

    They depend on an utterance's id alone, not on its batch or the device.
    """
    counts = batch["frames"].tolist()
    noise = torch.zeros(len(counts), latent, FRAMES_PER_CODE * batch["codes"].shape[1])
    starts = torch.zeros(len(counts), dtype=torch.int64)
    for i, (name, count) in enumerate(zip(batch["ids"], counts, strict=True)):
        chance = torch.Generator().manual_seed(seed_of(name))
        starts[i] = torch.randint(count - frames + 1, (), generator=chance)
        noise[i, :, :count] = torch.randn(latent, count, generator=chance)
    return starts.to(device), noise.to(device)


def seed_of(name: str) -> int:
    """Return the seed that an utterance's id gives, the same on every machine."""
    return int(place(name) * 2**52)


def write_spoken(folder: Path, spoken: Spoken, *, step: int, count: int, loggers: Sequence[Logger]) -> None:
    """Speak the first ``count`` utterances of a batch from their own codes and voice, as inference would.

    Each becomes a sound, a mel picture and a table of facts in ``step-*`` of ``folder``, and is shown in TensorBoard;
    its recording is written once, in ``reference``.
    """
    batch = spoken.batch
    for i, (name, text, language) in enumerate(
        zip(batch["ids"][:count], batch["texts"], batch["languages"], strict=False)
    ):
        audio, length = _speak(spoken, i), int(batch["frames"][i]) * HOP
        if not torch.isfinite(audio).all():
            logger.warning("%s cannot be written at step %d: the network's sound is not finite.", name, step)
            continue
        recording = _sound(spoken.wave[i, :length])
        passage = Passage(name=_file_name(name), text=text, id=name, language=language, recording=recording)
        keep_known(folder, passage)
        keep_said(folder, passage, _sound(audio), {"id": name}, step=step, loggers=loggers)


def _sound(samples: Tensor) -> Sound:
    return Sound(samples.float().cpu().numpy(), GAN_MEL.sample_rate)


@torch.no_grad()
def _speak(spoken: Spoken, i: int) -> Tensor:
    network, batch = spoken.network, spoken.batch
    frames, phonemes = int(batch["frames"][i]), int(batch["phoneme_counts"][i])
    speaker = batch["speaker"]
    codes = batch["codes"][i : i + 1, : frames // FRAMES_PER_CODE]
    made = network.decode(
        codes,
        batch["phonemes"][i : i + 1, :phonemes],
        [spoken.magnitudes[i : i + 1, :, :frames]],
        speakers=[speaker[i : i + 1]] if speaker is not None and network.speaker_style is not None else [],
        noise_scale=_NOISE_SCALE,
        noise=_noise(network, batch["ids"][i], FRAMES_PER_CODE * codes.shape[1]).to(codes.device),
    )
    return made[0, 0].float()


def _noise(network: SovitsNetwork, name: str, frames: int) -> Tensor:
    latent = network.posterior_encoder.output.out_channels // 2
    return torch.randn(1, latent, frames, generator=torch.Generator().manual_seed(seed_of(name)))


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[-100:] or "utterance"
