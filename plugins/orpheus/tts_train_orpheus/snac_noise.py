"""The noise in SNAC's decoder, drawn by place in the clip, so that any stretch of a clip can be decoded alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NoiseSource: TypeAlias = Callable[[int, tuple[int, int, int]], Tensor]
"""Takes the number of the noise block (0 is the coarsest) and the shape [B, 1, T]; gives the noise."""

_MASK = 2**64 - 1


class Noise(nn.Module):
    """SNAC's noise block, ``x + noise * linear(x)``, with noise from ``source``; none means no noise."""

    source: NoiseSource | None = None

    def __init__(self, linear: nn.Module, index: int) -> None:
        super().__init__()
        self.linear = linear
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """Take and return [B, C, T]."""
        if self.source is None:
            return x
        noise = self.source(self.index, (x.shape[0], 1, x.shape[2]))
        mixed: Tensor = x + noise.to(x) * self.linear(x)
        return mixed


def replace_noise(decoder: nn.Module) -> list[Noise]:
    """Put a ``Noise`` in place of every noise block of the ``snac`` package, keeping weights and their names."""
    from snac.layers import NoiseBlock

    found = [(name, module) for name, module in decoder.named_modules() if isinstance(module, NoiseBlock)]
    blocks = [Noise(module.linear, index) for index, (_, module) in enumerate(found)]
    for block, (name, _) in zip(blocks, found, strict=True):
        decoder.set_submodule(name, block)
    return blocks


def seeded_noise(seed: int, *, frames: int, first_frame: int = 0) -> NoiseSource:
    """Return normal noise that depends on nothing but the seed, the block and the frame's number in the clip.

    So frames 10 to 16 decoded alone get the noise that they get in the whole clip, and no global generator is touched.
    """

    def draw(block: int, shape: tuple[int, int, int]) -> Tensor:
        batch, _, steps = shape
        parts = [_frame_noise(seed, block, first_frame + f, (batch, 1, steps // frames)) for f in range(frames)]
        return torch.from_numpy(np.concatenate(parts, axis=2))

    return draw


def _frame_noise(seed: int, block: int, frame: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    key = np.array([seed & _MASK, frame << 8 | block], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, dtype=np.float32)
