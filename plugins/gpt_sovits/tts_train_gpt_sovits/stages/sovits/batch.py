"""Batches of the stage: utterances padded to the longest, audio as 16-bit words until it is on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tts_train.datasets import place
from tts_train_gpt_sovits.networks.sovits.generator import slice_frames
from tts_train_gpt_sovits.signal.audio import FULL_SCALE
from tts_train_gpt_sovits.signal.frames import length_mask
from tts_train_gpt_sovits.signal.mel import GAN_MEL, batch_spectrogram

HOP = GAN_MEL.hop_length
"""Samples of a frame, 20 ms."""
FRAMES_PER_CODE = 2


@dataclass(frozen=True)
class SovitsUtterance:
    """One row."""

    id: str
    text: str
    language: str
    codes: Tensor
    """int64 (N,)."""
    phonemes: Tensor
    """int64 (X,)."""
    wave: Tensor
    """int16 (F * 640,), F = 2 N or a little less."""
    speaker: Tensor | None = None
    """float32 (20480,), where the version needs it."""
    features: Tensor | None = None
    """float32 (768, F), where the quantizer is trained."""


class SovitsBatch(TypedDict):
    """Utterances in a batch; ``F`` frames of 20 ms, an even number."""

    ids: list[str]
    texts: list[str]
    languages: list[str]
    codes: Tensor
    """int64 (B, F / 2)."""
    frames: Tensor
    """int64 (B,)."""
    wave: Tensor
    """int16 (B, F * 640)."""
    phonemes: Tensor
    """int64 (B, X)."""
    phoneme_counts: Tensor
    """int64 (B,)."""
    speaker: Tensor | None
    """float32 (B, 20480)."""
    features: Tensor | None
    """float32 (B, 768, F)."""


def join(utterances: Sequence[SovitsUtterance]) -> SovitsBatch:
    """Pad utterances to the longest and join them."""
    codes = _pad([each.codes for each in utterances])
    # An even number, since a code covers two frames.
    frames = FRAMES_PER_CODE * codes.shape[1]
    wave = torch.zeros(len(utterances), frames * HOP, dtype=torch.int16)
    for row, each in zip(wave, utterances, strict=True):
        row[: len(each.wave)] = each.wave
    return {
        "ids": [each.id for each in utterances],
        "texts": [each.text for each in utterances],
        "languages": [each.language for each in utterances],
        "codes": codes,
        # Of the audio, which may end up to four frames before the codes do.
        "frames": torch.tensor([len(each.wave) // HOP for each in utterances]),
        "wave": wave,
        "phonemes": _pad([each.phonemes for each in utterances]),
        "phoneme_counts": torch.tensor([len(each.phonemes) for each in utterances]),
        "speaker": _stack([each.speaker for each in utterances]),
        "features": _features([each.features for each in utterances], frames),
    }


def samples(batch: SovitsBatch) -> Tensor:
    """Return the audio of a batch as float32 samples (B, F * 640) in [-1, 1)."""
    # Widened on the device: 16-bit words are half as much to copy.
    return batch["wave"].float() / FULL_SCALE


def magnitudes(wave: Tensor, frames: Tensor) -> Tensor:
    """Return the spectrogram (B, 1025, F) of padded samples, 0 after each utterance's ``frames``."""
    made = batch_spectrogram(wave, frames * HOP)
    return made * length_mask(frames, made.shape[-1], made.dtype)


def wave_slices(wave: Tensor, starts: Tensor, frames: int) -> Tensor:
    """Return the samples (B, 1, frames * 640) of each utterance's slice."""
    return slice_frames(wave[:, None], starts * HOP, frames * HOP)


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
    # A float64 has 52 bits behind the point.
    return int(place(name) * 2**52)


def _pad(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)


def _stack(rows: list[Tensor | None]) -> Tensor | None:
    known = [row for row in rows if row is not None]
    return torch.stack(known) if len(known) == len(rows) else None


def _features(rows: list[Tensor | None], frames: int) -> Tensor | None:
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        return None
    joined = known[0].new_zeros(len(known), known[0].shape[0], frames)
    for i, row in enumerate(known):
        joined[i, :, : row.shape[1]] = row[:, :frames]
    return joined
