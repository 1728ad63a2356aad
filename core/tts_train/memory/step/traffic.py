"""What one operator moves and computes on a card: bytes read and written, operations, kernels, host waits."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from tts_train.memory.step.fused import varlen_flops
from tts_train.nn.kernels.choice import NAME as LEFT_OUT

_aten = torch.ops.aten
# Bytes that rows of a product's matrices must be a multiple of for the fast kernels (TMA's and cp.async's unit).
_ALIGNED = 16
# In-place operators that do not look at what they overwrite.
_WRITE_ONLY = {"copy_", "fill_", "zero_", "random_", "normal_", "uniform_", "exponential_", "bernoulli_", "log_normal_"}
# No kernel at all.
_ALLOCATES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_", "lift_fresh"}
# Take a shape from their first argument and read nothing of it.
_SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_full"}
# Read of their first argument only what they return.
_GATHERS = {"embedding", "index_select", "gather", "index", "take", "_unsafe_index"}
# Read and write of their first argument only as much as the values put there.
_SCATTERS = {"scatter_add_", "scatter_", "index_put_", "index_add_", "_index_put_impl_", "index_copy_"}
# Need a value, or a size that depends on values, on the host.
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
_GROUP_TENSORS, _GROUP_ELEMENTS = 36, 320 * 65536
"""Most tensors and elements that one kernel of a ``_foreach_`` or ``_fused_`` operator takes, as in torch."""
# Types whose products have tensor cores; float32 is counted at the plain rate, without TF32.
_LOW = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)


@dataclass(frozen=True)
class Traffic:
    """What one call of an operator costs, whatever the card."""

    name: str
    """``namespace::operator``."""
    bytes: int
    """Read and written together."""
    flops: int = 0
    """Operations of products, convolutions and attention."""
    launches: int = 0
    """Kernels; 0 for views and allocations, which cost no time on the card."""
    waits: int = 0
    """Values that the host waits for."""
    single: bool = False
    """Whether its products are float32."""
    misaligned: bool = False
    """Whether it is a product with a matrix whose rows are no multiple of 16 bytes."""


def traffic(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Traffic:  # noqa: ANN401
    """Return what an operator that was called moves and computes.

    Its bytes are its distinct inputs (read), its outputs and the arguments that it changes (written), by the schema. A
    view is counted with the elements it shows, an expanded tensor once. Views, detached tensors and allocations are
    free. A custom operator is one kernel.
    """
    form = _form(func)
    if form.name == LEFT_OUT:
        return _left_out(*args, **kwargs)
    waits = int(form.op in _WAITS or (form.op == "index" and _by_mask(args)))
    if form.op in _ALLOCATES or (form.op == "_local_scalar_dense"):
        return Traffic(form.name, 0, waits=waits)
    given = list(_given(form, args, kwargs))
    written = [tensor for tensor, writes, _ in given if writes]
    made = [value for value in tree_leaves(out) if isinstance(value, Tensor)]
    held = {_memory(tensor) for tensor, _, _ in given}
    # What shares memory with an argument was written there, or is a view.
    made = [tensor for tensor in made if _memory(tensor) not in held]
    if not made and not written and not waits:
        return Traffic(form.name, 0)  # a view
    read = sum(_distinct(tensor for tensor, _, reads in given if reads))
    moved = read + sum(_distinct(written)) + sum(_distinct(made))
    if form.op in _GATHERS:
        # Rows that are picked are read and written once; the table's other rows are not touched.
        moved = 2 * sum(_distinct(made)) + sum(_distinct(t for t, _, _ in given[1:]))
    elif form.op in _SCATTERS:
        values = list(_distinct(t for t, _, _ in given[1:]))
        # The values are read, and so are the places they go to, which are then written.
        moved = sum(values) + 2 * max(values, default=0)
    flops = _flops(func, args, kwargs, out)
    products = [tensor for tensor, _, _ in given if tensor.ndim >= 2] + made if flops else []
    return Traffic(
        form.name,
        moved,
        flops,
        _launches(form, written or made),
        waits,
        single=bool(flops) and not any(tensor.dtype in _LOW for tensor in products),
        misaligned=form.is_matmul and any(map(_misaligned, products)),
    )


def _left_out(name: str, read: Any, written: Any, flops: int = 0) -> Traffic:  # noqa: ANN401 - lists of tensors
    return Traffic(name, sum(_distinct(read)) + sum(_distinct(written)), flops, launches=1)


def seen_bytes(tensor: Tensor) -> int:
    """Return the bytes of the elements that a tensor shows, those of an expanded dimension once."""
    count = math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return 0 if 0 in tensor.shape else count * tensor.element_size()


@dataclass(frozen=True)
class _Form:
    """What of an operator its schema and name say, looked up once."""

    name: str
    op: str
    arguments: tuple[tuple[str, bool, bool], ...]
    """Name, whether it is written, whether it is read."""
    many: bool
    """Whether it works on lists of tensors, some at a time."""
    is_matmul: bool


@functools.lru_cache(maxsize=4096)
def _form(func: Any) -> _Form:  # noqa: ANN401
    schema = func._schema
    name, op = str(schema.name), str(schema.name).split("::")[-1]
    arguments = []
    for place, argument in enumerate(schema.arguments):
        writes = argument.alias_info is not None and argument.alias_info.is_write
        unread = writes and (argument.is_out or op in _WRITE_ONLY)
        arguments.append((argument.name, writes, not unread and not (place == 0 and op in _SHAPE_ONLY)))
    many = op.startswith(("_foreach_", "_fused_adam", "_fused_sgd", "_amp_foreach_"))
    matmul = op in ("mm", "addmm", "bmm", "baddbmm", "addmm_", "baddbmm_", "_scaled_mm", "_int_mm")
    return _Form(name, op, tuple(arguments), many, matmul)


def _given(form: _Form, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Tensor, bool, bool]]:
    for place, (name, writes, reads) in enumerate(form.arguments):
        value = args[place] if place < len(args) else kwargs.get(name)
        if isinstance(value, Tensor):
            yield value, writes, reads
        elif isinstance(value, (list, tuple)):
            for one in value:
                if isinstance(one, Tensor):
                    yield one, writes, reads


def _distinct(tensors: Any) -> Iterator[int]:  # noqa: ANN401 - an iterable of tensors
    seen = set()
    for tensor in tensors:
        key = (_memory(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if key not in seen:
            seen.add(key)
            yield seen_bytes(tensor)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _launches(form: _Form, results: list[Tensor]) -> int:
    if not form.many:
        return 1
    elements = sum(tensor.numel() for tensor in results)
    return max(1, -(-len(results) // _GROUP_TENSORS), -(-elements // _GROUP_ELEMENTS))


def _by_mask(args: tuple[Any, ...]) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1] or ())


def _misaligned(tensor: Tensor) -> bool:
    """Tell whether the longer step between a matrix's rows or columns is no multiple of 16 bytes."""
    if tensor.dtype not in _LOW or tensor.ndim < 2:
        return False
    # One of the last two strides is 1; the other is what the kernel's loads step by.
    step = max(tensor.stride()[-2:])
    return bool(step * tensor.element_size() % _ALIGNED)


def _flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:  # noqa: ANN401
    packet = getattr(func, "_overloadpacket", None)
    if packet is _aten._flash_attention_forward and args[0].shape[-2] != args[1].shape[-2]:
        # torch's formula knows no grouped heads; each query meets the longest row of keys at most.
        return int(4 * args[0].numel() * args[6])
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    if packet is _aten.addmm_:
        return int(flop_registry[_aten.addmm](*args, **kwargs, out_val=out))
    if packet is _aten._int_mm:
        return int(flop_registry[_aten.mm](*args, **kwargs, out_val=out))
    return varlen_flops(func, args)
