"""Fused GPU kernels as registered operators, each with its reference in plain PyTorch.

An operator here is a ``torch.library`` custom operator with a fake implementation, so that a plan counts its memory
and its traffic without running it. :func:`fused` says where the kernel runs; elsewhere the reference does.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

import torch

from tts_train.nn.devices import planned_device

# Compute capability of Turing.
_OLDEST = (7, 5)


def fused(tensor: torch.Tensor) -> bool:
    """Tell whether Triton kernels run on ``tensor``: on a CUDA GPU that Triton supports, or in a plan for CUDA.

    ``TRITON_INTERPRET=1``, set before the process starts, runs the kernels on a CPU, slowly; tests use it.
    """
    planned = planned_device()
    if planned is not None:
        return planned == "cuda"
    # The interpreter runs on a CPU's tensors, so their device says nothing.
    return interpreted() or (tensor.is_cuda and triton_lacks(tensor.device) is None)


def interpreted() -> bool:
    """Tell whether Triton's interpreter takes the place of its compiler."""
    return os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None


@lru_cache
def triton_lacks(device: torch.device) -> str | None:
    """Return why Triton cannot compile for a CUDA device, as half a sentence; None if it can."""
    if find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < _OLDEST:
        least = ".".join(map(str, _OLDEST))
        return f"{torch.cuda.get_device_name(device)} is older than Triton supports (compute capability {least})"
    return None
