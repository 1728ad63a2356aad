"""CUDA streams for work beside the computation: one for each device and purpose, made once."""

from __future__ import annotations

import functools

import torch


@functools.cache
def side_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:  # noqa: ARG001 - a key of the cache
    """Return the stream of a device for a purpose, such as ``offload``; the same one each time.

    A stream of its own for each use would keep freed memory to itself in torch's allocator.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
