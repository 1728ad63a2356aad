"""Clips of mixed length through SNAC's encoder at once, with the codes that each would get alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

MOST_PADDING = 8
"""A clip joins a batch if at most one part in this many of it would be padding."""


def group_batches(frames: Sequence[int], most_frames: int) -> list[list[int]]:
    """Group clips of similar length, each group at most ``most_frames`` when padded; longer clips go alone.

    Returns indices into ``frames``, every one once, longest first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(frames)), key=lambda i: -frames[i]):
        longest = frames[batches[-1][0]] if batches else 0
        fits = batches and longest * (len(batches[-1]) + 1) <= most_frames
        if fits and (longest - frames[index]) * MOST_PADDING <= longest:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad_clips(clips: Sequence[Tensor], frame_samples: int) -> tuple[Tensor, list[int]]:
    """Return clips [B, 1, T], zero after their ends, and the frames that each one needs; T is the longest's, whole."""
    frames = [-(-clip.numel() // frame_samples) for clip in clips]
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
    hooks = [m.register_forward_pre_hook(silence) for m in reaching] if min(frames) < longest else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute in true float32 whatever the caller has set: no autocast, no TF32; codes must not depend on it."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    try:
        with cudnn, torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
