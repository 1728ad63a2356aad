"""How one flat piece of a parameter is stepped: fused AdamW, AdamW and Lion with 8-bit states, rounding to bfloat16.

Rounding float32 to bfloat16 lets small changes survive on average, with bits that no generator has to keep. The random
bits are a function of (seed, parameter, step, element) alone: the same on every card and on a CPU, however a parameter
is cut into pieces or divided over processes. The function is the hash of :mod:`tts_train.nn.reproducible`, with a key
word before each of its two multiplications. A counter-based generator of full strength (Philox, Salmon et al. 2011)
takes several times the operations, and nobody must be kept from guessing these bits. One hash serves two elements,
each with 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from tts_train.errors import ConfigError
from tts_train.nn.devices import planned_device
from tts_train.nn.kernels.choice import left_out
from tts_train.nn.reproducible import FIRST, KEYS, MASK, SECOND, mixed, shift_xor_, signed
from tts_train.optim.kernels import dynamic

_EXPONENT = 0x7F800000
# Elements rounded at a time on a CPU, so that what is in between stays in its cache.
_CHUNK = 1 << 17


def parameter_key(seed: int, place: int) -> tuple[int, int]:
    """Return the two 32-bit key words of a parameter, ``place`` being its number in the optimiser (splitmix64)."""
    word = ((seed << 32) + place + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    word = (word ^ word >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    word ^= word >> 31
    return word & MASK, word >> 32


def step_key(key: tuple[int, int], count: int) -> tuple[int, int]:
    """Return the key words of a parameter's step ``count``."""
    first, second = (mixed(word + count * added & MASK) for word, added in zip(key, KEYS, strict=True))
    return first, second


def noise(start: int, end: int, key: tuple[int, int], device: torch.device) -> Tensor:
    """Return 16 random bits, as int32, for each of the elements ``start`` to ``end`` of a parameter."""
    words = torch.arange(start // 2, (end + 1) // 2, device=device).to(torch.int32)  # wraps after 2^33 elements
    shift_xor_(words.bitwise_xor_(signed(key[0])), 16).mul_(signed(FIRST))
    shift_xor_(words, 15).add_(signed(key[1])).mul_(signed(SECOND))
    shift_xor_(words, 16)
    # Reads the two halves in little-endian order, that of every machine torch is built for.
    halves = words.view(torch.int16)[start % 2 : start % 2 + end - start]  # the lower half is the even element's
    return halves.to(torch.int32).bitwise_and_(0xFFFF)


def round_stochastically(values: Tensor, key: tuple[int, int], *, start: int = 0) -> Tensor:
    """Round float32 ``values`` to one of their two bfloat16 neighbours, each the likelier the nearer it is.

    The expected result is the value itself (Gupta et al. 2015, arXiv 1502.02551): 16 random bits are added below the
    bits that bfloat16 keeps, and what is left below is cut off. A value that bfloat16 can hold stays as it is, and so
    do infinities and NaN.

    Args:
        values: Float32 tensor, flat.
        key: The step's, from :func:`step_key`.
        start: Number of the first element within its parameter.
    """
    rounded = torch.empty_like(values, dtype=torch.bfloat16)
    size = _CHUNK if values.device.type == "cpu" else max(values.numel(), 1)
    for begin in range(0, values.numel(), size):
        part = values[begin : begin + size]
        bits = noise(start + begin, start + begin + part.numel(), key, values.device)
        # Adding to the bits carries into the mantissa that stays, and from there into the exponent, as rounding up
        # must.
        bits.add_(part.view(torch.int32)).bitwise_and_(-(1 << 16))
        # A NaN can have every mantissa bit set; the noise would carry it over into a number.
        finite = part.view(torch.int32).bitwise_and(_EXPONENT) != _EXPONENT
        rounded[begin : begin + size].copy_(torch.where(finite, bits.view(torch.float32), part))
    return rounded


BLOCK = 256
"""Elements that share one scale of an 8-bit state; a parameter may be cut at multiples of it."""

Allocate = Callable[[int, torch.dtype], Tensor]
"""Makes a flat tensor of zeros."""

# Parameters below this size keep 32-bit states, as bitsandbytes does.
_SMALLEST = 4096


class Rule(Protocol):
    """An optimiser that treats every element, or every block of elements, alike."""

    spans: Mapping[str, int]
    """Elements of the parameter that one entry of each state stands for: 1 or ``BLOCK``."""
    lion: bool
    """Lion, which has one running mean and looks at signs; else AdamW."""

    def new_state(self, size: int, whole: int, dtype: torch.dtype, allocate: Allocate) -> dict[str, Tensor]:
        """Return the states, all zero, of ``size`` of a parameter's ``whole`` elements, stepped in ``dtype``."""

    def step(
        self, weight: Tensor, grad: Tensor, state: Mapping[str, Tensor], *, count: int, group: Mapping[str, Any]
    ) -> None:
        """Move ``weight`` and ``state`` in place, all flat and of one device; ``count`` is 1 for the first step."""

    def maps(self, like: Tensor) -> Tensor:
        """Return what the fused kernel reads 8-bit states by, on the device of ``like``."""


class AdamWRule:
    """``torch.optim.AdamW(fused=True)`` (Loshchilov and Hutter 2019, arXiv 1711.05101), the same bits."""

    lion = False

    def __init__(self) -> None:
        self.spans: Mapping[str, int] = {"exp_avg": 1, "exp_avg_sq": 1}

    def maps(self, like: Tensor) -> Tensor:
        """Return any tensor: no state has 8 bits."""
        return like

    def new_state(self, size: int, whole: int, dtype: torch.dtype, allocate: Allocate) -> dict[str, Tensor]:
        """Return both running means in the type of the step."""
        return {name: allocate(size, dtype) for name in self.spans}

    def step(
        self, weight: Tensor, grad: Tensor, state: Mapping[str, Tensor], *, count: int, group: Mapping[str, Any]
    ) -> None:
        """Step with torch's fused kernel."""
        before = torch.full((), float(count - 1), device=weight.device)  # the kernel counts up itself
        adamw(
            [weight],
            [grad],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [before],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


class EightBitRule:
    """bitsandbytes' AdamW and Lion: 8-bit states, a scale for every 256 (Dettmers et al. 2021, arXiv 2110.02861).

    Args:
        name: ``adamw8bit`` or ``lion8bit``.
    """

    def __init__(self, name: str) -> None:
        bnb = import_bitsandbytes(name)
        self._functional = bnb.functional
        self.lion = name == "lion8bit"
        two = {} if self.lion else {"state2": 1, "absmax2": BLOCK}
        self.spans: Mapping[str, int] = {"state1": 1, "absmax1": BLOCK, **two}
        self._maps: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._tables: dict[torch.device, Tensor] = {}

    def new_state(self, size: int, whole: int, dtype: torch.dtype, allocate: Allocate) -> dict[str, Tensor]:
        """Return 8-bit codes and their scales; a small parameter's states are float32 and have no scales."""
        # Of the whole parameter, so that a piece of it, or a process's part, has states of the same kind.
        if whole < _SMALLEST:
            return {name: allocate(size, torch.float32) for name, span in self.spans.items() if span == 1}
        blocks = -(-size // BLOCK)
        kinds = {1: (size, torch.uint8), BLOCK: (blocks, torch.float32)}
        return {name: allocate(*kinds[span]) for name, span in self.spans.items()}

    def step(
        self, weight: Tensor, grad: Tensor, state: Mapping[str, Tensor], *, count: int, group: Mapping[str, Any]
    ) -> None:
        """Step with bitsandbytes' kernels, which work in place and cannot run on the shapes of a plan.

        A CUDA device with Triton does not come here: see :mod:`tts_train.optim.kernels.fused`.
        """
        if planned_device() is not None:
            kept = [weight, *state.values()]
            left_out(f"bitsandbytes::{'lion8bit' if self.lion else 'adamw8bit'}", [grad, *kept], kept)
            return
        beta1, beta2 = group["betas"]
        # bitsandbytes calls its AdamW kernel adam; decay is decoupled in both.
        name, eps = ("lion", 0.0) if self.lion else ("adam", group["eps"])
        one, two = state["state1"], state.get("state2")
        # A small parameter, see new_state.
        if "absmax1" not in state:
            self._functional.optimizer_update_32bit(
                name, grad, weight, one, beta1, eps, count, group["lr"], two, beta2, weight_decay=group["weight_decay"]
            )
            return
        # Squares have no sign, so their map spends all 256 codes on magnitudes.
        signed, unsigned = self._codes(weight.device)
        codes = (signed, None if two is None else unsigned, state["absmax1"], state.get("absmax2"))
        self._functional.optimizer_update_8bit_blockwise(
            name, grad, weight, one, two, beta1, beta2, 0.0, 0.0, eps, count, group["lr"], *codes, group["weight_decay"]
        )

    def maps(self, like: Tensor) -> Tensor:
        """Return bitsandbytes' maps and what finds the nearest value in them."""
        if planned_device() is not None:
            return like.new_empty(dynamic.LENGTH, dtype=torch.float32)
        if like.device not in self._tables:
            make = self._functional.create_dynamic_map
            self._tables[like.device] = dynamic.tables(make(signed=True), make(signed=False)).to(like.device)
        return self._tables[like.device]

    def _codes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._maps:
            make = self._functional.create_dynamic_map
            self._maps[device] = (make(signed=True).to(device), make(signed=False).to(device))
        return self._maps[device]


def import_bitsandbytes(name: str) -> ModuleType:
    """Import bitsandbytes for the optimiser ``name``.

    Raises:
        ConfigError: if it cannot be imported.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"--model.optimizer.name {name} needs bitsandbytes, which cannot be imported here ({error}). "
            "Install it with: pip install bitsandbytes; or use adamw or adafactor."
        ) from error
    module: ModuleType = bitsandbytes
    return module
