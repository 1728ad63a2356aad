"""Fused GPU kernels as registered operators, each with its reference in plain PyTorch.

An operator here is a ``torch.library`` custom operator with a fake implementation, so that a plan counts its memory
and its traffic without running it. :func:`fused` says where the kernel runs; elsewhere the reference does.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

from tts_train.nn.target import planned_device

_HAS_TRITON = find_spec("triton") is not None


def fused(tensor: torch.Tensor) -> bool:
    """Tell whether Triton kernels run on ``tensor``: on CUDA, in a plan for CUDA, or in Triton's interpreter.

    ``TRITON_INTERPRET=1``, set before the process starts, runs the kernels on a CPU, slowly; tests use it.
    """
    planned = planned_device()
    if planned is not None:
        return planned == "cuda"
    return _HAS_TRITON and (tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")
