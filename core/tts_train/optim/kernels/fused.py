"""Optimiser steps as registered operators: one pass over weights, gradients and states, without a wait for the host.

``tts_train::optimizer_step`` steps any number of parameters of one kind in one launch, and
``tts_train::mark_nonfinite`` looks at a gradient. Both have fakes, so that a plan counts what they read and write. What
they compute in Triton is what the rules of :mod:`tts_train.optim.streamed.rules` compute, up to float32 rounding; 8-bit
states become the nearest value of bitsandbytes' maps, as in its CUDA kernels (its CPU code takes a neighbour now and
then).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tts_train.nn.devices import planned_device
from tts_train.nn.reproducible import signed

NEAREST, STOCHASTIC, MASTER = 0, 1, 2
"""How the result becomes the weight; with ``MASTER`` it is kept in float32 beside."""
SIZE = 1024
"""Elements of a program, its rows of 256: a parameter of a multiple of them needs no mask."""
# Elements that one program looks through for what is not finite.
_SPAN = 4096


@dataclass(frozen=True)
class Part:
    """One parameter, or a flat piece of it, as the kernel takes it; all tensors flat and of one device.

    ``start`` is the number of the first element within the whole parameter, ``place`` the parameter's number and
    ``key`` its key words for stochastic rounding.
    """

    weight: Tensor
    grad: Tensor
    states: Sequence[Tensor]
    scales: Sequence[Tensor]
    master: Tensor | None
    start: int
    place: int
    key: tuple[int, int]

    @property
    def kind(self) -> tuple[object, ...]:
        """What parameters of one launch have in common."""
        types = self.weight.dtype, self.grad.dtype, self.states[0].dtype
        # One parameter that needs masks would have them, and narrow loads, in all of its launch.
        return *types, len(self.scales), self.master is not None, self.weight.numel() % SIZE == 0


def step_parts(
    parts: Sequence[Part],
    *,
    maps: Tensor,
    flags: Sequence[Tensor],
    group: Mapping[str, Any],
    lion: bool,
    rounding: int,
    clip: float | None,
) -> None:
    """Step parts of one kind (:attr:`Part.kind`) with the numbers of ``group``.

    Args:
        parts: What to step.
        maps: Tables of :mod:`tts_train.optim.kernels.dynamic`; only looked at for 8-bit states.
        flags: ``held`` (0-d float32; 1: nothing is changed), ``counts`` and ``upcoming`` (float32, one a parameter:
            steps taken before, and after where one was taken).
        group: ``lr``, ``betas``, ``weight_decay``, and ``eps`` unless ``lion``.
        lion: Lion instead of AdamW.
        rounding: ``NEAREST``, ``STOCHASTIC`` or ``MASTER``.
        clip: Gradients are held between plus and minus this.
    """
    beta1, beta2 = group["betas"]
    numbers = [group["lr"], beta1, beta2, group["eps"], group["weight_decay"], clip or 0.0, _log(beta1), _log(beta2)]
    # The operator is for plans: on real lists of hundreds of tensors its bookkeeping takes longer than the rest.
    run: Callable[..., None] = _run if planned_device() is None else optimizer_step
    run(
        [part.weight for part in parts],
        [part.grad for part in parts],
        [state for part in parts for state in part.states],
        [scale for part in parts for scale in part.scales],
        [part.master for part in parts if part.master is not None],
        maps,
        *flags,
        [number for part in parts for number in (part.start, part.place, *map(signed, part.key))],
        [float(number) for number in numbers],
        lion,
        rounding,
        clip is not None,
    )


def _run(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[Tensor],
    scales: Sequence[Tensor],
    masters: Sequence[Tensor],
    maps: Tensor,
    held: Tensor,
    counts: Tensor,
    upcoming: Tensor,
    places: Sequence[int],
    numbers: Sequence[float],
    lion: bool,
    rounding: int,
    clips: bool,
) -> None:
    from tts_train.optim.kernels import triton_step as kernels

    each, sizes = len(states) // len(weights), [weight.numel() for weight in weights]
    blocks = [-(-size // SIZE) for size in sizes]
    if not sum(blocks):
        return
    everything = (*weights, *grads, *states, *masters)
    # Then every load is a whole and aligned one: Triton reads 16 bytes at a time.
    even = all(size % SIZE == 0 for size in sizes) and all(one.data_ptr() % 16 == 0 for one in everything)
    how = {"LION": lion, "EIGHT": bool(scales), "ROUNDING": rounding, "CLIPS": clips, "EVEN": even}
    with torch.cuda.device_of(weights[0]):  # type: ignore[no-untyped-call]
        if len(weights) == 1:
            # A kernel takes every pointer; those that this optimiser has no use for point at something that is there.
            state2, scale2 = states[each - 1], scales[each - 1] if scales else maps
            kernels.step_one[(blocks[0],)](
                weights[0], grads[0], states[0], state2, scales[0] if scales else maps, scale2,
                masters[0] if masters else maps, maps, held, counts, upcoming, sizes[0], *places, *numbers, **how,
            )  # fmt: skip
            return
        # Addresses and sizes of all parameters travel in one copy, and one launch steps them: hundreds of launches of
        # small kernels would take longer than their work.
        table, first = [], 0
        for one, weight in enumerate(weights):
            start, place, *key = places[4 * one : 4 * one + 4]
            own = states[one * each : (one + 1) * each], scales[one * each : (one + 1) * each] or [maps]
            table += [
                weight.data_ptr(), grads[one].data_ptr(), own[0][0].data_ptr(), own[0][-1].data_ptr(),
                own[1][0].data_ptr(), own[1][-1].data_ptr(), (masters[one] if masters else maps).data_ptr(), first,
                sizes[one], start, place, key[0] & 0xFFFFFFFF | key[1] << 32,
            ]  # fmt: skip
            first += blocks[one]
        device = weights[0].device
        # Pinned, so that the copy does not wait for the steps before it.
        addresses = torch.tensor(table, dtype=torch.int64, pin_memory=device.type == "cuda")
        kernels.step_many[(first,)](
            addresses.to(device, non_blocking=True), _owners(tuple(blocks), device), maps, held, counts, upcoming,
            *numbers, WEIGHT=_triton(weights[0]), GRAD=_triton(grads[0]), STATE=_triton(states[0]), **how,
        )  # fmt: skip


optimizer_step = torch.library.custom_op(
    "tts_train::optimizer_step", _run, mutates_args=("weights", "states", "scales", "masters", "upcoming")
)
"""The step as an operator; :func:`step_parts` makes its lists."""


@optimizer_step.register_fake
def _(*_: object) -> None:
    """Change nothing: shapes stay."""


def mark_nonfinite(values: Tensor, held: Tensor) -> None:
    """Set ``held`` (0-d float32) to 1 if any of ``values`` (flat) is not finite; the operator is for plans."""
    run: Callable[..., None] = _mark if planned_device() is None else mark_operator
    run(values, held)


@torch.library.custom_op("tts_train::mark_nonfinite", mutates_args=("held",))
def mark_operator(values: Tensor, held: Tensor) -> None:
    """Set ``held`` (0-d float32) to 1 if any of ``values`` (flat) is not finite."""
    _mark(values, held)


def _mark(values: Tensor, held: Tensor) -> None:
    from tts_train.optim.kernels import triton_step as kernels

    if values.numel():
        with torch.cuda.device_of(values):  # type: ignore[no-untyped-call]
            kernels.mark[(-(-values.numel() // _SPAN),)](values, held, values.numel(), SPAN=_SPAN)


@mark_operator.register_fake
def _(values: Tensor, held: Tensor) -> None:
    """Change nothing: shapes stay."""


@lru_cache(maxsize=64)
def _owners(blocks: tuple[int, ...], device: torch.device) -> Tensor:
    """Return whose each block is."""
    counts = torch.tensor(blocks)
    # Kept: the sizes of a network's parameters are the same in every step.
    return torch.arange(len(blocks), dtype=torch.int32).repeat_interleave(counts).to(device)


def _triton(tensor: Tensor) -> Any:  # noqa: ANN401 - Triton is not typed
    import triton.language as tl

    kinds = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.uint8: tl.uint8}
    return kinds[tensor.dtype]


def _log(beta: float) -> float:
    # A beta of 0 has no logarithm; exp(-1e4) is 0 in float32.
    return math.log(beta) if beta > 0 else -1e4
