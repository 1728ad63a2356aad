"""ggml's ``Q4_K`` and ``Q6_K``: 4.5 and 6.6 bits a weight, which the ``gguf`` package reads and does not write.

Both cut a row into blocks of 256 weights, and those into groups with a step of their own; the steps of a block are
whole numbers times one float16. The layout in bytes is ggml's. How a step is found is not part of the format: here
several are tried, the values rounded with each, and the step refitted to them by least squares (as Lloyd 1982 does in
turns); the one with the smallest squared error is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 256
"""Weights that share one float16; rows must be a multiple."""

_AT_A_TIME = 1 << 18
"""Weights packed at a time: what is computed with stays in a processor's cache, and memory does not grow with a matrix.
"""
_FEWER_STEPS = (-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8, 1.2)
"""By how much the number of steps across a group's range differs from 15 in what is tried (``Q4_K``)."""
_WIDER = (-0.8, -0.4, 0.0, 0.4, 0.8)
"""The same from 32, the steps between zero and a group's largest value (``Q6_K``)."""
_SMALLEST = 1e-30


def pack_q4_k(weight: Tensor) -> NDArray[np.uint8]:
    """Pack a matrix as ``Q4_K``: groups of 32 with a step and a least value of 6 bits each, and 4 bits a weight.

    Args:
        weight: Float32 (rows, columns), columns a multiple of 256.

    Returns:
        Bytes (rows, columns / 256 * 144).
    """
    return _in_parts(weight, _q4_k, 144)


def pack_q6_k(weight: Tensor) -> NDArray[np.uint8]:
    """Pack a matrix as ``Q6_K``: groups of 16 with a step of 8 bits each, and 6 bits a weight.

    Args:
        weight: Float32 (rows, columns), columns a multiple of 256.

    Returns:
        Bytes (rows, columns / 256 * 210).
    """
    return _in_parts(weight, _q6_k, 210)


def _in_parts(weight: Tensor, pack: Callable[[Tensor], Tensor], size: int) -> NDArray[np.uint8]:
    rows, columns = weight.shape
    blocks = weight.contiguous().view(-1, BLOCK)
    packed = torch.empty(len(blocks), size, dtype=torch.uint8)
    step = _AT_A_TIME // BLOCK
    for start in range(0, len(blocks), step):
        packed[start : start + step] = pack(blocks[start : start + step])
    return packed.view(rows, columns // BLOCK * size).numpy()


def _q4_k(blocks: Tensor) -> Tensor:
    """Pack (n, 256) weights into (n, 144) bytes: d, the least values' d, 12 bytes of both, 128 bytes of weights."""
    groups = blocks.view(-1, 8, 32)
    steps, depths = _steps_and_depths(groups)
    step, step_scale = _whole_times_half(steps, 63)
    depth, depth_scale = _whole_times_half(depths, 63)
    width = step * step_scale.float()
    below = depth * depth_scale.float()
    levels = ((groups + below[..., None]) / width.clamp(min=_SMALLEST)[..., None]).round_().clamp_(0, 15)
    levels = torch.where(width[..., None] > 0, levels, 0).to(torch.uint8).view(-1, 4, 2, 32)
    step, depth = step.to(torch.uint8), depth.to(torch.uint8)
    high = torch.stack([step[:, 4:] >> 4, depth[:, 4:] >> 4], dim=1) << 6
    small = torch.cat([step[:, :4] | high[:, 0], depth[:, :4] | high[:, 1]], dim=1)
    small = torch.cat([small, (step[:, 4:] & 15) | (depth[:, 4:] & 15) << 4], dim=1)
    nibbles = levels[:, :, 0] | levels[:, :, 1] << 4
    return torch.cat([_bytes(step_scale), _bytes(depth_scale), small, nibbles.flatten(1)], dim=1)


def _steps_and_depths(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return for groups (..., 32) the step s and the depth m of 0 or more for which s * (0 to 15) - m is nearest."""
    least = groups.amin(dim=-1, keepdim=True).clamp(max=0)
    reach = (groups.amax(dim=-1, keepdim=True) - least).clamp(min=_SMALLEST)
    count, total = groups.shape[-1], groups.sum(dim=-1)
    best = torch.full_like(total, torch.inf)
    steps, depths = torch.zeros_like(total), torch.zeros_like(total)
    for fewer in _FEWER_STEPS:
        levels = ((groups - least) * ((15 + fewer) / reach)).round_().clamp_(0, 15)
        of_levels, squares = levels.sum(dim=-1), (levels * levels).sum(dim=-1)
        products = (levels * groups).sum(dim=-1)
        spread = count * squares - of_levels**2
        step = (count * products - of_levels * total) / spread.clamp(min=0.5)
        depth = (of_levels * step - total) / count
        # A depth below zero has no place in the format: the line goes through zero then.
        through_zero = depth < 0
        step = torch.where(through_zero, products / squares.clamp(min=1), step).clamp(min=0)
        depth = depth.clamp(min=0)
        # The squared error less that of all zeros, from sums that are at hand.
        error = step * (step * squares - 2 * products) + depth * (2 * total - 2 * step * of_levels + count * depth)
        better = error < best
        best, steps = torch.where(better, error, best), torch.where(better, step, steps)
        depths = torch.where(better, depth, depths)
    return steps, depths


def _q6_k(blocks: Tensor) -> Tensor:
    """Pack (n, 256) weights into (n, 210) bytes: 4 low bits of each, 2 high bits of each, 16 steps, d."""
    groups = blocks.view(-1, 16, 16)
    steps = _signed_steps(groups)
    largest = steps.gather(1, steps.abs().argmax(dim=1, keepdim=True))
    scale = _no_smaller(largest.abs() / 128) * -largest.sign().half()
    width = scale.float()
    whole = (steps / torch.where(width == 0, 1, width)).round_().clamp_(-128, 127)
    whole = torch.where(width == 0, 0, whole)
    width = (whole * width)[..., None]
    levels = (groups / torch.where(width == 0, 1, width)).round_().clamp_(-32, 31)
    levels = (torch.where(width == 0, 0, levels) + 32).to(torch.uint8).view(-1, 2, 4, 32)
    low = (levels[:, :, :2] & 15) | (levels[:, :, 2:] & 15) << 4
    high = levels >> 4
    high = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    return torch.cat([low.flatten(1), high.flatten(1), whole.to(torch.int8).view(torch.uint8), _bytes(scale)], dim=1)


def _signed_steps(groups: Tensor) -> Tensor:
    """Return for groups (..., 16) the step s, of either sign, for which s * (-32 to 31) is nearest."""
    # Of both signs -32 reaches farther than 31: the step's sign is such that the largest value gets it.
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    inverse = -1 / torch.where(largest.abs() < _SMALLEST, torch.inf, largest)
    best, steps = torch.zeros_like(groups[..., 0]), torch.zeros_like(groups[..., 0])
    for wider in _WIDER:
        levels = (groups * (inverse * (32 + wider))).round_().clamp_(-32, 31)
        products, squares = (levels * groups).sum(dim=-1), (levels * levels).sum(dim=-1)
        step = products / squares.clamp(min=1)
        gained = step * products
        better = gained > best
        best, steps = torch.where(better, gained, best), torch.where(better, step, steps)
    return steps


def _whole_times_half(values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return whole numbers (n, k) from 0 to ``most`` and float16 (n, 1) whose products are nearest to ``values``."""
    scale = _no_smaller(values.amax(dim=1, keepdim=True) / most)
    width = scale.float()
    whole = (values / torch.where(width == 0, 1, width)).round_().clamp_(0, most)
    return torch.where(width == 0, 0, whole), scale


def _no_smaller(values: Tensor) -> Tensor:
    """Round positive numbers up to float16, so that the largest whole number reaches; tiny ones do not become zero."""
    return (values * (1 + 2.0**-11) + 2.0**-25).half()


def _bytes(halves: Tensor) -> Tensor:
    return halves.view(torch.uint8)
