"""SNAC by place in the clip: noise for any stretch of it, and clips of mixed length encoded as each would be alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from tts_train.contract import DataError

NoiseSource: TypeAlias = Callable[[int, tuple[int, int, int]], Tensor]
"""Takes the number of the noise block (0 is the coarsest) and the shape [B, 1, T]; gives the noise."""

# Philox takes 64 bits; negative seeds are among them then.
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
        # One channel of noise for all, as in the released network.
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
    # numpy's Philox on the CPU gives the same numbers for every device and version of torch.
    key = np.array([seed & _MASK, frame << 8 | block], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, dtype=np.float32)


MOST_PADDING = 8
"""A clip joins a batch if at most one part in this many of it would be padding."""


def group_batches(frames: Sequence[int], most_frames: int) -> list[list[int]]:
    """Group clips of similar length, each group at most ``most_frames`` when padded; longer clips go alone.

    Returns indices into ``frames``, every one once, longest first.
    """
    batches: list[list[int]] = []
    # Longest first: it says how far the others of its batch are padded.
    for index in sorted(range(len(frames)), key=lambda i: -frames[i]):
        longest = frames[batches[-1][0]] if batches else 0
        # Counted with padding, which is what memory holds.
        fits = batches and longest * (len(batches[-1]) + 1) <= most_frames
        if fits and (longest - frames[index]) * MOST_PADDING <= longest:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad_clips(clips: Sequence[Tensor], frame_samples: int) -> tuple[Tensor, list[int]]:
    """Return clips [B, 1, T], zero after their ends, and the frames that each one needs; T is the longest's, whole."""
    # Rounded up: the last frame is part of the clip, however little of it is sound.
    frames = [-(-clip.numel() // frame_samples) for clip in clips]
    # Zeros, as the encoder itself pads a clip that is encoded alone.
    batch = clips[0].new_zeros(len(clips), 1, max(frames) * frame_samples)
    for row, clip in zip(batch, clips, strict=True):
        row[0, : clip.numel()] = clip
    return batch, frames


@contextmanager
def ends_at(encoder: nn.Module, frames: Sequence[int]) -> Iterator[None]:
    """Make each clip of a batch end, for every convolution, after its own frames.

    A clip encoded alone meets the zero padding of each convolution at its end. In a longer batch it would meet
    activations that biases made out of silence, and its last codes would change. Here the steps after its end that a
    convolution reaches (at most its padding) are zeroed just before it, which is the same padding.
    """
    longest = max(frames)

    def silence(module: nn.Module, args: tuple[Tensor]) -> None:
        assert isinstance(module, nn.Conv1d)
        reach = int(module.padding[0])
        scale = args[0].shape[-1] // longest
        for row, count in zip(args[0], frames, strict=True):
            row[:, count * scale : count * scale + reach] = 0

    reaching = [m for m in encoder.modules() if isinstance(m, nn.Conv1d) and m.padding[0]]
    # Clips of one length end together, where each convolution pads them anyway.
    hooks = [m.register_forward_pre_hook(silence) for m in reaching] if min(frames) < longest else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_levels(
    levels: Sequence[ArrayLike], strides: Sequence[int], size: int, device: torch.device | str
) -> list[Tensor]:
    """Return the codes of each level as [1, n] int64 on the device.

    Raises:
        DataError: if the levels do not fit together or a code is outside [0, size).
    """
    codes = [torch.as_tensor(level, dtype=torch.int64).reshape(1, -1).to(device) for level in levels]
    sizes = [code.shape[-1] for code in codes]
    due = [sizes[0] * strides[0] // stride for stride in strides] if sizes else []
    if sizes != due or not sizes:
        raise DataError(f"This codec needs {len(strides)} levels of sizes like {due}, and these have {sizes}.")
    if any(bool(((code < 0) | (code >= size)).any()) for code in codes):
        raise DataError(f"Codes must lie in [0, {size}).")
    return codes
