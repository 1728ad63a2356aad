"""Products with frozen matrices and the adapters on them, in as few passes as there are products.

PEFT adds an adapter as ``base(x) + (x A^T B^T) * scale``: a copy of the result, a pass to scale and a pass to add, for
each matrix. Here the second product is added into the base's result, and in backward all gradients of one input are
added into one tensor. The idea is Unsloth's (and that of Hu et al. 2021, arXiv 2106.09685, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tts_train.nn.devices import runs_on

_ADAPTER = "default"
_HALF = (torch.float16, torch.bfloat16)
_NONE: Mapping[int, Tensor] = {}


@dataclass(frozen=True)
class _Part:
    """One frozen matrix, with its adapter or without."""

    base: nn.Module
    scale: float
    a: Tensor | None
    """(rank, in_features)."""
    b: Tensor | None
    """(out_features, rank)."""


def adapter_copies(linears: Sequence[nn.Module], device: str) -> dict[int, Tensor]:
    """Cast the adapters of several layers to autocast's type at once, into one buffer; by the ``id`` of each weight.

    One by one, in forward, again where a layer is recomputed and in backward, the casts were a quarter of the kernels.
    """
    if not torch.is_autocast_enabled(device):
        return {}
    kind = torch.get_autocast_dtype(device)
    adapted: list[Any] = [linear for linear in linears if hasattr(linear, "lora_A")]
    weights = [part[_ADAPTER].weight for linear in adapted for part in (linear.lora_A, linear.lora_B)]
    weights = [weight for weight in weights if weight.dtype != kind]
    if not weights:
        return {}
    with torch.no_grad():
        # One buffer and one kernel, as the copies are small and many.
        buffer = weights[0].new_empty(sum(weight.numel() for weight in weights), dtype=kind)
        pieces = buffer.split([weight.numel() for weight in weights])
        copies = [piece.view(weight.shape) for piece, weight in zip(pieces, weights, strict=True)]
        torch._foreach_copy_(copies, weights)
    return {id(weight): copy for weight, copy in zip(weights, copies, strict=True)}


def project(states: Tensor, *linears: nn.Module, copies: Mapping[int, Tensor] = _NONE) -> tuple[Tensor, ...]:
    """Apply several linear layers to the same ``states`` (N, in_features).

    Frozen ones, with PEFT's adapters or without, are computed together; others one by one, as they are. ``copies`` are
    what :func:`adapter_copies` made; an adapter without one is cast here.
    """
    parts = [_part(linear) for linear in linears]
    kind = _type_of_products(states, parts)
    if kind is None:
        return tuple(linear(states) for linear in linears)
    known = [part for part in parts if part is not None]
    adapters = [matrix for part in known for matrix in (part.a, part.b)]
    # The copies of a layer are shared by its products, so that each adapter is cast once.
    cast = [None if one is None else copies.get(id(one), one).to(kind) for one in adapters]
    made: tuple[Tensor, ...] = _Projections.apply(states, kind, known, cast, *adapters)  # type: ignore[no-untyped-call]
    return made


def _part(linear: nn.Module) -> _Part | None:
    """Describe a frozen layer; None for one that is trained or whose adapter does more than a plain one."""
    base = getattr(linear, "base_layer", linear)
    weight = base.weight
    # A bias or a trained matrix needs gradients that are not written here; such layers compute as they are.
    if weight.requires_grad or base.bias is not None or not (type(base) is nn.Linear or _quantised(base)):
        return None
    if base is linear:
        return _Part(base, 1.0, None, None)
    layer: Any = linear
    plain = layer.active_adapters == [_ADAPTER] and not (layer.disable_adapters or layer.merged or layer.lora_variant)
    # Dropout, several adapters and DoRA are rare: they are left to PEFT.
    if not plain or type(layer.lora_dropout[_ADAPTER]) is not nn.Identity:
        return None
    a, b = layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]
    return _Part(base, float(layer.scaling[_ADAPTER]), a.weight, b.weight) if a.bias is b.bias is None else None


def _quantised(base: nn.Module) -> bool:
    return hasattr(base, "matrix") or getattr(base.weight, "quant_state", None) is not None


def _type_of_products(states: Tensor, parts: list[_Part | None]) -> torch.dtype | None:
    """Return autocast's type, without it the one type of inputs and adapters; None where PEFT has to cast."""
    if None in parts:
        return None
    device = states.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    adapters = [part.a for part in parts if part is not None and part.a is not None]
    return states.dtype if all(a.dtype == states.dtype for a in adapters) else None


class _Projections(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's context
        states: Tensor,
        kind: torch.dtype,
        parts: list[_Part],
        cast: list[Tensor | None],
        *adapters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        given, states = states.dtype, states.to(kind)
        results: list[Tensor] = []
        between: list[Tensor | None] = []
        for part, a, b in zip(parts, cast[::2], cast[1::2], strict=True):
            result = part.base(states).to(kind)
            if a is not None and b is not None:
                low = states @ a.T
                # In place, as the base's result is new and nobody else holds it.
                result.addmm_(low, b.T, alpha=part.scale)
                between.append(low)
            else:
                between.append(None)
            results.append(result)
        ctx.given, ctx.parts = given, parts
        ctx.types = [None if one is None else one.dtype for one in adapters]
        # The input is for the gradients of A only; weights are saved as weights, whoever moves what is saved.
        plain = [part.base.weight if type(part.base) is nn.Linear else None for part in parts]
        kept = [one if one is None or one.dtype == kind else copy for one, copy in zip(adapters, cast, strict=True)]
        ctx.save_for_backward(states if any(a is not None for a in adapters) else None, *between, *plain, *kept)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        states, *rest = ctx.saved_tensors
        count = len(ctx.parts)
        between, weights, adapters = rest[:count], rest[count : 2 * count], rest[2 * count :]
        needed = ctx.needs_input_grad
        total: Tensor | None = None
        slopes: list[Tensor | None] = []
        for index, (part, grad) in enumerate(zip(ctx.parts, grads, strict=True)):
            if needed[0]:
                # The first layers have an input that needs no gradient where the embedding is frozen.
                total = _add_product(total, grad, _matrix(part.base, weights[index], grad.dtype))
            a, b = adapters[2 * index], adapters[2 * index + 1]
            if a is None or b is None:
                slopes += [None, None]
                continue
            # Scaled once here and not in both products that it goes into.
            low = _scaled_product(grad, b, part.scale)
            if needed[0]:
                total = _add_product(total, low, a)
            for_a = _product(low.T, states, ctx.types[2 * index])
            for_b = _product(grad.T, between[index], ctx.types[2 * index + 1])
            slopes += [for_a, for_b if part.scale == 1.0 else for_b.mul_(part.scale)]
        return None if total is None else total.to(ctx.given), None, None, None, *slopes


def _matrix(base: Any, weight: Tensor | None, dtype: torch.dtype) -> Tensor:  # noqa: ANN401 - a layer, quantised or not
    """Return a layer's matrix (out_features, in_features) in the type of a product."""
    if weight is not None:
        return weight.to(dtype)
    if hasattr(base, "matrix"):
        made: Tensor = base.matrix(dtype)
        return made
    from bitsandbytes.functional import dequantize_4bit

    matrix: Tensor = dequantize_4bit(base.weight.data, base.weight.quant_state)
    return matrix.to(dtype)


def _add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    return left @ right if total is None else total.addmm_(left, right)


def _scaled_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    if scale == 1.0:
        return left @ right
    return left.new_empty(left.shape[0], right.shape[1]).addmm_(left, right, beta=0.0, alpha=scale)


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply into ``dtype``; a GPU's kernels sum in float32 anyway, so nothing is rounded to half precision there."""
    # Adapters are float32: rounding their gradients to half first would lose the small ones.
    if dtype == torch.float32 and left.dtype in _HALF and runs_on(left.device) == "cuda":
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)
