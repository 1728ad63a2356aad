"""One pass over memory for an optimiser step, in Triton: weight, gradient and states are read once and written once.

A program takes ``ROWS`` rows of 256 elements; a row has one scale for each 8-bit state. All arithmetic is in float32.
Imported only where Triton is.
"""

# Triton reads these functions' annotations, and its own functions are not typed.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

# 1,024 elements a program, `SIZE` of fused.py.
ROWS = tl.constexpr(4)


@triton.jit
# `reproducible.mixed` in Triton, and the function below `rules.noise`: a test compares their bits.
def _mixed(word):
    word = (word ^ (word >> 16)) * 0x7FEB352D
    word = (word ^ (word >> 15)) * 0x846CA68B
    return word ^ (word >> 16)


@triton.jit
def _noise(index, key_a, key_b, count):
    """``rules.noise`` of the elements ``index``, for a parameter's key words and its step."""
    # A key word before each of the two multiplications; 2^32 / phi and the next of such constants keep steps apart.
    first = _mixed(key_a + count * 0x9E3779B9)
    second = _mixed(key_b + count * 0x85EBCA6B)
    word = (index >> 1).to(tl.uint32) ^ first
    word = (word ^ (word >> 16)) * 0x7FEB352D
    word = ((word ^ (word >> 15)) + second) * 0x846CA68B
    word = word ^ (word >> 16)
    # One hash serves two neighbours.
    return (word >> ((index & 1) * 16).to(tl.uint32)) & 0xFFFF


@triton.jit
def _one_minus_power(log_beta, count):
    """1 - beta ** count, also where the power is nearly 1."""
    x = log_beta * count
    # For beta2 of 0.999 the power of the first steps is so near 1 that 1 - exp(x) keeps few digits of float32.
    series = -x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7))))))
    return tl.where(x > -0.3, series, 1 - tl.exp(x))


@triton.jit
def _nearest_code(value, tables, SIGNED: tl.constexpr):
    """The code of bitsandbytes' dynamic map that is nearest to ``value`` in -1 to 1; see ``dynamic.tables``."""
    size = tl.abs(value)
    # Counted, not searched: a search of 256 values would read the table eight times and branch.
    decade = (size > tl.load(tables + 1)).to(tl.int32)
    decade += (size > tl.load(tables + 2)).to(tl.int32)
    decade += (size > tl.load(tables + 3)).to(tl.int32)
    decade += (size > tl.load(tables + 4)).to(tl.int32)
    decade += (size > tl.load(tables + 5)).to(tl.int32)
    decade += (size > tl.load(tables + 6)).to(tl.int32)
    count = (1 << decade) if SIGNED else (2 << decade)
    within = size * tl.load(tables + 8 + decade) - tl.load(tables + 16 + decade)
    # Rounding at a decade's end may leave it by one place.
    within = tl.minimum(tl.maximum(within, 0.0).to(tl.int32), count - 1)
    found = (count if SIGNED else count - 1) + within
    found = tl.where(size > tl.load(tables), found, 0)
    if SIGNED:
        found = tl.where((value > tl.load(tables + 7)), 128, found)
        return (127 + tl.where(value < 0, -found, found)).to(tl.uint8)
    return tl.where(value > tl.load(tables + 7), 255, found).to(tl.uint8)


@triton.jit
def _as(values, TYPE: tl.constexpr):
    """``values`` in ``TYPE``, to nearest, ties to even: spelt out, since Triton's interpreter cuts bfloat16 off."""
    # Half of the last kept bit is added, less one where that bit is even: ties go to even.
    if tl.bfloat16 == TYPE:
        bits = values.to(tl.uint32, bitcast=True)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).to(tl.float32, bitcast=True)
        values = tl.where((bits & 0x7F800000) != 0x7F800000, rounded, values)
    return values.to(TYPE)


@triton.jit
def _row_scale(values):
    # A row of zeros has no scale; its codes are zero whatever it is divided by.
    scale = tl.max(tl.abs(values), axis=1)
    return scale, tl.where(scale > 0, 1 / tl.where(scale > 0, scale, 1.0), 0.0)


@triton.jit
def _move(
    block, weight, grad, state1, state2, scale1, scale2, master, maps, size, start, key_a, key_b, count,
    lr, beta1, beta2, eps, decay, clip, log1, log2,
    LION: tl.constexpr, EIGHT: tl.constexpr, ROUNDING: tl.constexpr, CLIPS: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    rows = block.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = rows[:, None] * 256 + tl.arange(0, 256)[None, :]
    # A constant mask, which the compiler drops.
    keep = tl.full((ROWS, 256), 1, tl.int1) if EVEN else at < size
    keep_row = tl.full((ROWS,), 1, tl.int1) if EVEN else rows * 256 < size
    # With a float32 copy of the weight, that is what moves; the weight is only rounded from it.
    source = master if ROUNDING == 2 else weight
    exact = tl.load(source + at, mask=keep, other=0.0).to(tl.float32)
    slope = tl.load(grad + at, mask=keep, other=0.0).to(tl.float32)
    if CLIPS:
        slope = tl.minimum(tl.maximum(slope, -clip), clip)
    if EIGHT:
        code = tl.load(state1 + at, mask=keep, other=0).to(tl.int32)
        mean = tl.load(maps + code) * tl.load(scale1 + rows, mask=keep_row, other=0.0)[:, None]
    else:
        mean = tl.load(state1 + at, mask=keep, other=0.0).to(tl.float32)
    # Decoupled decay comes first, as in torch's AdamW.
    exact = exact * (1 - lr * decay)
    if LION:
        ahead = mean * beta1 + slope * (1 - beta1)
        exact = exact - lr * ((ahead > 0).to(tl.float32) - (ahead < 0).to(tl.float32))
        # Lion looks ahead with beta1 and remembers with beta2.
        mean = mean * beta2 + slope * (1 - beta2)
    else:
        if EIGHT:
            code = tl.load(state2 + at, mask=keep, other=0).to(tl.int32)
            square = tl.load(maps + 256 + code) * tl.load(scale2 + rows, mask=keep_row, other=0.0)[:, None]
        else:
            square = tl.load(state2 + at, mask=keep, other=0.0).to(tl.float32)
        mean = mean * beta1 + slope * (1 - beta1)
        square = square * beta2 + slope * slope * (1 - beta2)
        # Bias is taken off by torch's order of operations, so that float32 states agree to the last bits.
        rate = lr / _one_minus_power(log1, count)
        root = tl.sqrt(_one_minus_power(log2, count))
        exact = exact - rate * mean / (tl.sqrt(square) / root + eps)
        if EIGHT:
            # Beyond the end there may be anything, and it would become the row's scale.
            square = tl.where(keep, square, 0.0)
            scale, inverse = _row_scale(square)
            tl.store(scale2 + rows, scale, mask=keep_row)
            tl.store(state2 + at, _nearest_code(square * inverse[:, None], maps + 536, False), mask=keep)
        else:
            tl.store(state2 + at, _as(square, state2.dtype.element_ty), mask=keep)
    if EIGHT:
        mean = tl.where(keep, mean, 0.0)
        scale, inverse = _row_scale(mean)
        tl.store(scale1 + rows, scale, mask=keep_row)
        tl.store(state1 + at, _nearest_code(mean * inverse[:, None], maps + 512, True), mask=keep)
    else:
        tl.store(state1 + at, _as(mean, state1.dtype.element_ty), mask=keep)
    if ROUNDING == 2:
        tl.store(master + at, exact, mask=keep)
    if ROUNDING == 1:
        bits = exact.to(tl.uint32, bitcast=True)
        # Counted within the whole parameter, so that pieces and processes draw what one step of the whole would.
        noise = _noise(at + start, key_a, key_b, count.to(tl.uint32))
        rounded = ((bits + noise) & 0xFFFF0000).to(tl.float32, bitcast=True)
        exact = tl.where((bits & 0x7F800000) != 0x7F800000, rounded, exact)
    tl.store(weight + at, _as(exact, weight.dtype.element_ty), mask=keep)


@triton.jit(do_not_specialize=["start", "place", "key_a", "key_b"])
def step_one(
    weight, grad, state1, state2, scale1, scale2, master, maps, held, counts, upcoming,
    size, start, place, key_a, key_b, lr, beta1, beta2, eps, decay, clip, log1, log2,
    LION: tl.constexpr, EIGHT: tl.constexpr, ROUNDING: tl.constexpr, CLIPS: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """Step one parameter, or a piece of it that begins with element ``start``, unless ``held`` is set."""
    if tl.load(held) == 0:
        block = tl.program_id(0)
        count = tl.load(counts + place) + 1
        if block == 0:
            tl.store(upcoming + place, count)
        _move(
            block, weight, grad, state1, state2, scale1, scale2, master, maps, size, start,
            key_a.to(tl.uint32), key_b.to(tl.uint32), count, lr, beta1, beta2, eps, decay, clip, log1, log2,
            LION, EIGHT, ROUNDING, CLIPS, EVEN,
        )  # fmt: skip


@triton.jit
def step_many(
    table, owners, maps, held, counts, upcoming, lr, beta1, beta2, eps, decay, clip, log1, log2,
    WEIGHT: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr,
    LION: tl.constexpr, EIGHT: tl.constexpr, ROUNDING: tl.constexpr, CLIPS: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """Step many parameters of one kind; ``table`` has addresses, sizes and key words, ``owners`` whose block it is."""
    if tl.load(held) == 0:
        # Twelve words of each parameter, in the order in which fused.py writes them.
        row = table + tl.load(owners + tl.program_id(0)) * 12
        block = tl.program_id(0) - tl.load(row + 7).to(tl.int32)
        place = tl.load(row + 10)
        count = tl.load(counts + place) + 1
        if block == 0:
            tl.store(upcoming + place, count)
        weight = tl.load(row).to(tl.pointer_type(WEIGHT))
        grad = tl.load(row + 1).to(tl.pointer_type(GRAD))
        state1 = tl.load(row + 2).to(tl.pointer_type(STATE))
        state2 = tl.load(row + 3).to(tl.pointer_type(STATE))
        master = tl.load(row + 6).to(tl.pointer_type(tl.float32))
        if EVEN:  # their addresses are then multiples of 16 bytes too
            weight, grad = tl.multiple_of(weight, 16), tl.multiple_of(grad, 16)
            state1, state2 = tl.multiple_of(state1, 16), tl.multiple_of(state2, 16)
            master = tl.multiple_of(master, 16)
        _move(
            block, weight, grad, state1, state2,
            tl.load(row + 4).to(tl.pointer_type(tl.float32)), tl.load(row + 5).to(tl.pointer_type(tl.float32)),
            master, maps, tl.load(row + 8), tl.load(row + 9),
            tl.load(row + 11).to(tl.uint32), (tl.load(row + 11) >> 32).to(tl.uint32), count,
            lr, beta1, beta2, eps, decay, clip, log1, log2, LION, EIGHT, ROUNDING, CLIPS, EVEN,
        )  # fmt: skip


@triton.jit
def mark(values, held, size, SPAN: tl.constexpr):
    """Set ``held`` to 1 if any value is not finite."""
    at = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    read = tl.load(values + at, mask=at < size, other=0.0).to(tl.float32)
    # All bits of the exponent: infinity or NaN.
    bad = (read.to(tl.uint32, bitcast=True) & 0x7F800000) == 0x7F800000
    if tl.max(bad.to(tl.int32), axis=0) > 0:
        # Whoever writes, writes 1: no atomic is needed.
        tl.store(held, 1.0)
