"""Small batches of random Orpheus rows, packed and padded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.orpheus.family import kept_targets
from tts_train_orpheus import layout

LENGTHS = (33, 12, 47)


def row(length: int, generator: torch.Generator) -> Tensor:
    """Text, then start of speech, then audio in slot order, then the two ends."""
    words = 4
    text = torch.randint(0, layout.TEXT_TOKENS, (words,), generator=generator)
    codes = torch.arange(length - words - 3)
    audio = layout.AUDIO_BASE + layout.CODEBOOK_SIZE * (codes % layout.SLOTS)
    audio = audio + torch.randint(0, layout.CODEBOOK_SIZE, codes.shape, generator=generator)
    ends = torch.tensor([layout.END_OF_SPEECH, layout.END_OF_AI])
    return torch.cat([text, torch.tensor([layout.START_OF_SPEECH]), audio, ends])


def rows(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [row(length, generator) for length in lengths]


def next_ids(ids: Tensor) -> Tensor:
    return torch.cat([ids[1:], torch.tensor([-100])])


def packed(documents: list[Tensor]) -> dict[str, Any]:
    lengths = torch.tensor([len(document) for document in documents])
    targets = torch.cat([next_ids(document) for document in documents])[None]
    return {
        **kept_targets(targets),
        "input_ids": torch.cat(documents)[None],
        "targets": targets,
        "position_ids": torch.cat([torch.arange(len(document)) for document in documents])[None],
        "cu_seqlens": torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int(),
        "max_seqlen": int(lengths.max()),
        "lengths": lengths.tolist(),
        "audio_seconds": 2.5,
        "ids": [f"u{i}" for i in range(len(documents))],
    }


def padded(documents: list[Tensor]) -> dict[str, Any]:
    width = max(map(len, documents))

    def stack(tensors, value):
        return torch.stack([torch.nn.functional.pad(t, (0, width - len(t)), value=value) for t in tensors])

    targets = stack([next_ids(document) for document in documents], -100)
    return {
        **kept_targets(targets),
        "input_ids": stack(documents, layout.PAD),
        "targets": targets,
        "position_ids": torch.arange(width).expand(len(documents), -1),
        "cu_seqlens": None,
        "max_seqlen": width,
        "lengths": [len(document) for document in documents],
        "audio_seconds": 2.5,
        "ids": [f"u{i}" for i in range(len(documents))],
    }
