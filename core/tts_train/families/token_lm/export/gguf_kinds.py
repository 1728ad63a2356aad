"""Which type each tensor of a GGUF file gets, how it is rounded to it, and how far it may be off then.

ggml's ``Q4_K`` and ``Q6_K``, 4.5 and 6.6 bits a weight, are packed here, as the ``gguf`` package only reads them.

Both cut a row into blocks of 256 weights, and those into groups with a step of their own; the steps of a block are
whole numbers times one float16. The layout in bytes is ggml's. How a step is found is not part of the format: here
several are tried, the values rounded with each, and the step refitted to them by least squares (as Lloyd 1982 does in
turns); the one with the smallest squared error is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from torch import Tensor

from tts_train.errors import ConfigError

BLOCK = 256
"""Weights that share one float16; rows must be a multiple."""

_BLOCKS_AT_A_TIME = 1 << 18
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
    step = _BLOCKS_AT_A_TIME // BLOCK
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
    # A group of zeros has a step of zero.
    levels = torch.where(width[..., None] > 0, levels, 0).to(torch.uint8).view(-1, 4, 2, 32)
    step, depth = step.to(torch.uint8), depth.to(torch.uint8)
    # Eight steps and eight depths of 6 bits are 12 bytes: the last four lend their high bits to the first.
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
        # Levels are whole numbers: a spread below 1 means that all are equal, and the clamp only avoids 0 / 0.
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
        # By this much the squared error is less than that of zeros.
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


Floats: TypeAlias = NDArray[np.float32]

FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_k": gguf.LlamaFileType.MOSTLY_Q4_K_M,
}

_WHOLE = {"f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0}
_PACK = {Kind.Q4_K: pack_q4_k, Kind.Q6_K: pack_q6_k}
_NARROWER = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}
"""What llama.cpp takes where rows are no multiple of 256; both want a multiple of 32, and then it takes f16."""

FALLBACKS = {kind.name for kind in (*_NARROWER.values(), Kind.F16)}

_FARTHEST = {Kind.Q5_0: 1 / 15, Kind.Q6_K: 1 / 12, Kind.Q4_K: 1 / 4}
"""How far a weight may be off, as a share of its block's range with zero. Rounding a group of n weights by steps s
leaves a squared error of n s² / 4 at most, all of which may be in one weight; the steps' own rounding comes on top."""
_ERROR = 0.25
"""How much of a matrix may be lost, root mean square to root mean square; Q4_K loses 0.07 of normal weights."""

_AT_A_TIME = 1 << 24
"""Weights that are read back at a time, so that memory does not grow with a matrix."""


def kind_of(name: str, shape: tuple[int, ...], dtype: str, *, layers: int, tied: bool) -> Kind:
    """Return a tensor's type.

    Args:
        name: Its name in the file.
        shape: Rows and columns; vectors stay float32.
        dtype: ``f16``, ``bf16``, ``q8_0``, or ``q4_k``, which is the mixture that llama.cpp calls Q4_K_M.
        layers: Number of layers.
        tied: Whether the embedding is the output matrix as well.

    Raises:
        ConfigError: if ``q8_0`` is asked of rows that it cannot hold.
    """
    if len(shape) == 1:
        return Kind.F32
    if dtype == "q8_0" and shape[-1] % 32:
        raise ConfigError(f"q8_0 needs rows of a multiple of 32, and {name} has {shape[-1]}. Use --dtype f16.")
    if dtype != "q4_k":
        return _WHOLE[dtype]
    wanted = _mixed(name, layers, tied)
    if shape[-1] % 256 == 0:
        return wanted
    return _NARROWER[wanted] if shape[-1] % 32 == 0 else Kind.F16


def _mixed(name: str, layers: int, tied: bool) -> Kind:
    """Return the type that Q4_K_M means for a matrix: six bits for the output and for half of the sensitive ones."""
    if name == ("token_embd.weight" if tied else "output.weight"):
        return Kind.Q6_K
    if not name.endswith((".attn_v.weight", ".ffn_down.weight")):
        return Kind.Q4_K
    # llama.cpp's rule: the first and the last eighth of the layers, and every third between.
    layer, eighth = int(name.split(".")[1]), layers // 8
    first_or_last = layer < eighth or layer >= 7 * layers // 8
    return Kind.Q6_K if first_or_last or (layer - eighth) % 3 == 2 else Kind.Q4_K


def rounded(tensor: Tensor, kind: Kind) -> NDArray[Any]:
    """Return a float32 tensor in the bytes of a type."""
    if kind in _PACK:
        return _PACK[kind](tensor)
    values: NDArray[Any] = gguf.quants.quantize(tensor.numpy(), kind)
    return values


def differences(tensor: Tensor, found: gguf.ReaderTensor) -> Iterator[tuple[Floats, Floats, bool]]:
    """Compare a tensor with what a file has for it, some rows at a time.

    Yields:
        The rows as they should be, as they were read, and whether that is what the type's rounding can leave.
    """
    rows = tensor if tensor.ndim > 1 else tensor[None]
    data = found.data if tensor.ndim > 1 else found.data[None]
    step = max(1, _AT_A_TIME // rows.shape[-1])
    lost = total = 0.0
    for start in range(0, len(rows), step):
        wanted = rows[start : start + step].numpy()
        values = gguf.quants.dequantize(data[start : start + step], found.tensor_type).reshape(wanted.shape)
        yield wanted, values, _near(wanted, values, found.tensor_type)
        lost += float(np.square(wanted - values, dtype=np.float64).sum())
        total += float(np.square(wanted, dtype=np.float64).sum())
    # float16 has nothing below 6e-8: steps of matrices smaller than that are zero, as in llama.cpp.
    if lost > _ERROR**2 * total + tensor.numel() * 1e-12:
        yield wanted, values, False


def _near(wanted: Floats, values: Floats, kind: Kind) -> bool:
    """Compare by arithmetic that shares no code with the writer's."""
    if kind in _FARTHEST or kind == Kind.Q8_0:
        size = gguf.GGML_QUANT_SIZES[kind][0]
        blocks = wanted.reshape(-1, size)
        off = np.abs(blocks - values.reshape(-1, size))
        if kind == Kind.Q8_0:
            largest = np.abs(blocks).max(axis=1, keepdims=True)
            # Half a step of amax / 127, and the scale's own rounding to float16 (relative 2^-11, absolute 2^-25).
            bound = largest / 254 * 1.001 + largest * 2.0**-11 + 127 * 2.0**-25
        else:
            reach = blocks.max(axis=1, keepdims=True).clip(min=0) - blocks.min(axis=1, keepdims=True).clip(max=0)
            bound = reach * _FARTHEST[kind] + 1e-5
        return bool((off <= bound).all())
    dtypes = {Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
    exact = torch.from_numpy(wanted).to(dtypes.get(kind, torch.float32)).float()
    return bool(torch.isfinite(exact).all()) and np.array_equal(exact.numpy(), values)
