"""The Triton kernels of :mod:`tts_train.nn.kernels.rms_norm`; imported where they run."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


def settings(width: int) -> dict[str, int]:
    """Return the compile-time options for rows of ``width``: a whole row in a program."""
    block = triton.next_power_of_2(width)
    return {"BLOCK": block, "num_warps": min(max(block // 512, 1), 16)}


@triton.jit
def forward(
    states, residual, weight, total, normed, scale, width, eps, HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr
):
    """Normalise one row; with a residual the sum is written too."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    place = row * width + column
    value = tl.load(states + place, mask=inside, other=0.0)
    if HAS_RESIDUAL:
        value = tl.load(residual + place, mask=inside, other=0.0).to(tl.float32) + value.to(tl.float32)
        # The norm must see the sum as it is stored, or backward would see another one.
        value = value.to(total.dtype.element_ty)
        tl.store(total + place, value, mask=inside)
    wide = value.to(tl.float32)
    factor = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / width + eps)
    tl.store(scale + row, factor)
    # Llama's order, see rms_norm_reference.
    rounded = (wide * factor).to(value.dtype).to(tl.float32)
    factors = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + place, (factors * rounded).to(normed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "each"])  # they differ from batch to batch: one kernel for all
def backward(
    grad,
    grad_total,
    states,
    weight,
    scale,
    slope,
    partial,
    rows,
    each,
    width,
    HAS_TOTAL: tl.constexpr,
    FOR_WEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Go through ``each`` rows one after the other: their gradients, and the sum of those of the weight."""
    part = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    factors = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    summed = tl.zeros((BLOCK,), dtype=tl.float32)
    row = part * each
    last = tl.minimum(row + each, rows)
    while row < last:  # the interpreter's range takes no tensor under numpy 2.4
        place = row * width + column
        value = tl.load(states + place, mask=inside, other=0.0)
        incoming = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        factor = tl.load(scale + row)
        unit = value.to(tl.float32) * factor
        if FOR_WEIGHT:
            summed += incoming * unit.to(value.dtype).to(tl.float32)
        weighted = incoming * factors
        # What of the gradient points along the row itself; normalisation takes it out.
        along = tl.sum(weighted * unit, axis=0) / width
        result = factor * (weighted - unit * along)
        if HAS_TOTAL:
            result += tl.load(grad_total + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(slope + place, result.to(slope.dtype.element_ty), mask=inside)
        row += 1
    if FOR_WEIGHT:
        tl.store(partial + part * width + column, summed, mask=inside)
