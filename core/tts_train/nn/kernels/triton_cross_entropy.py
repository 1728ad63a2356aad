"""The Triton kernel of :mod:`tts_train.nn.kernels.cross_entropy`; imported where it runs."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
# Each lane keeps its own running maximum, so that the loop needs no reduction over lanes.
def _take_in(value, place, best, where, total):
    """Take a block into each lane's highest value, its place and the sum of exponentials below it."""
    better = value > best
    where = tl.where(better, place, where)
    highest = tl.where(better, value, best)
    shift = tl.where(highest == float("-inf"), 0.0, highest)
    return highest, where, total * tl.exp(best - shift) + tl.exp(value - shift)


@triton.jit
def _slope(value, place, target, shift, share, scale):
    """Return softmax minus one-hot, times ``scale``."""
    softmax = tl.exp(value - shift) * share
    return tl.where(place == target, softmax - 1.0, softmax) * scale


@triton.jit
def step(
    logits,
    targets,
    losses,
    predictions,
    stride,
    scale,
    COLUMNS: tl.constexpr,
    SLOPES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute one row: read it once for the loss, and once more to write its gradient over it."""
    WHOLE: tl.constexpr = COLUMNS // BLOCK * BLOCK
    # 64 bits: 16,384 rows of 156,992 logits are more than 2^31.
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * stride
    lanes = tl.arange(0, BLOCK)
    target = tl.load(targets + row)
    picked = tl.load(start + target).to(tl.float32)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    # Sums so far are scaled when the maximum grows: one pass over memory finds both.
    total = tl.zeros((BLOCK,), tl.float32)
    where = lanes
    # Whole blocks need no mask, which would stand in the way of wide loads.
    for first in range(0, WHOLE, BLOCK):
        place = first + lanes
        value = tl.load(start + place).to(tl.float32)
        best, where, total = _take_in(value, place, best, where, total)
    place = WHOLE + lanes
    value = tl.load(start + place, mask=place < COLUMNS, other=float("-inf")).to(tl.float32)
    best, where, total = _take_in(value, place, best, where, total)
    # A row of which all logits are -inf would give NaN from inf - inf, so its shift is 0.
    highest = tl.max(best, axis=0)
    shift = tl.where(highest == float("-inf"), 0.0, highest)
    summed = tl.sum(total * tl.exp(best - shift), axis=0)
    tl.store(losses + row, tl.log(summed) + (shift - picked))
    # The lowest place among equal maxima, as torch's argmax on a CPU.
    tl.store(predictions + row, tl.min(tl.where(best == highest, where, COLUMNS), axis=0).to(tl.int64))
    if SLOPES:
        # The row was read just now and mostly lies in the cache still.
        share = 1.0 / summed
        for first in range(0, WHOLE, BLOCK):
            place = first + lanes
            value = tl.load(start + place).to(tl.float32)
            slope = _slope(value, place, target, shift, share, scale)
            tl.store(start + place, slope.to(logits.dtype.element_ty))
        place = WHOLE + lanes
        value = tl.load(start + place, mask=place < COLUMNS, other=float("-inf")).to(tl.float32)
        slope = _slope(value, place, target, shift, share, scale)
        tl.store(start + place, slope.to(logits.dtype.element_ty), mask=place < COLUMNS)
