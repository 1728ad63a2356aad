"""A small real network of the stage ``sovits`` and a batch for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork

HOP = 16
FRAMES = 8


def tiny_network(*, seed: int = 0, **changes: Any) -> SovitsNetwork:
    """Return a network of a few thousand weights around the parts whose width no version changes."""
    settings: dict[str, Any] = {
        "symbols": 12,
        "style": 16 if changes.get("speaker") else 512,
        "wave_channels": 16,
        "upsample_kernels": (8, 8),
        "rates": (4, 4),
        "dropout": 0.0,
        "latent": 4,
        "channels": 8,
        "hidden": 16,
        "layers": 2,
    }
    torch.manual_seed(seed)
    network = SovitsNetwork(**(settings | changes))
    torch.nn.init.normal_(network.quantizer.embedding)
    network.quantizer.initialised.fill_(1.0)
    return network


def tiny_batch(
    lengths: tuple[int, ...] = (20, 14), texts: tuple[int, ...] = (5, 3), *, frames: int = 0
) -> dict[str, Tensor]:
    """Return the arguments of a forward, padded to ``frames`` or the longest."""
    frames = frames or max(lengths)
    batch = {
        "features": torch.zeros(len(lengths), 768, frames),
        "spectrogram": torch.zeros(len(lengths), 1025, frames),
        "lengths": torch.tensor(lengths),
        "text": torch.zeros(len(lengths), max(texts), dtype=torch.long),
        "text_lengths": torch.tensor(texts),
        "noise": torch.zeros(len(lengths), 4, frames),
    }
    for i, (length, text) in enumerate(zip(lengths, texts, strict=True)):
        generator = torch.Generator().manual_seed(i)
        batch["features"][i, :, :length] = torch.randn(768, length, generator=generator)
        batch["spectrogram"][i, :, :length] = torch.rand(1025, length, generator=generator)
        batch["text"][i, :text] = torch.randint(1, 12, (text,), generator=generator)
        batch["noise"][i, :, :length] = torch.randn(4, length, generator=generator)
    return batch
