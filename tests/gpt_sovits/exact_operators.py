"""Operators whose results CUDA does not repeat, refused while a step runs on a CPU.

Two lists, both of the docstring of ``torch.use_deterministic_algorithms`` (2.11): what it refuses, and what is
deterministic only while it is on. Of the second, an operator passes inside ``deterministic_kernels()``, and where it
writes each place at most once, for then no order matters. Convolutions pass where cuDNN is told to be deterministic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten

REFUSED = {
    "avg_pool3d_backward",
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "max_pool3d_with_indices_backward",
    "adaptive_max_pool2d_backward",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "max_unpool2d",
    "max_unpool3d",
    "upsample_linear1d_backward",
    "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "replication_pad1d_backward",
    "replication_pad2d_backward",
    "replication_pad3d_backward",
    "nll_loss2d_forward",
    "nll_loss2d_backward",
    "_ctc_loss_backward",
    "_embedding_bag_dense_backward",
    "put_",
    "put",
    "histc",
    "bincount",
    "kthvalue",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "median",
}
ADDING = {
    "index_add",
    "index_add_",
    "scatter_add",
    "scatter_add_",
    "scatter_reduce",
    "scatter_reduce_",
    "index_reduce_",
}
WRITING = {"index_copy", "index_copy_", "scatter", "scatter_"}
ATTENDING = {
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward",
    "_scaled_dot_product_cudnn_attention_backward",
    "_flash_attention_backward",
    "_efficient_attention_backward",
}
CONVOLVING = {"convolution", "convolution_backward", "_convolution"}


class ExactOperators(TorchDispatchMode):
    """Within the block, an operator that CUDA would not repeat raises ``AssertionError``; all others are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.seen.add(name)
        wrong = name in REFUSED
        if not torch.are_deterministic_algorithms_enabled():
            wrong = wrong or name in ATTENDING or (name in ADDING | WRITING and not _once(args))
        if name in CONVOLVING:
            wrong = not torch.backends.cudnn.deterministic or torch.backends.cudnn.benchmark
        if name in ("cumsum", "cumsum_", "logcumsumexp"):
            wrong = args[0].is_floating_point()
        if name in ("index_put", "index_put_", "_index_put_impl_"):  # adding is sorted on CUDA, writing is not
            accumulates = args[3] if len(args) > 3 else (kwargs or {}).get("accumulate", False)
            masks = all(index is None or index.dtype == torch.bool for index in args[1])
            wrong = not accumulates and not masks and args[2].numel() > 1
        if wrong:
            raise AssertionError(f"{func} is not repeated by CUDA: {[_shape(each) for each in args]}.")
        return func(*args, **(kwargs or {}))


def _once(args: tuple[Any, ...]) -> bool:
    """Return whether an operator's index (self, dim, index, ...) names no place of a row twice."""
    _, dim, index, *_ = args
    ordered = index.sort(dim if index.dim() > 1 else 0).values
    return bool((ordered.diff(dim=dim if index.dim() > 1 else 0) != 0).all())


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else value
