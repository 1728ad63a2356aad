"""Weights files that somebody else wrote: read without running anything in them.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.weights.claims import TensorClaim as TensorClaim, check_regular as check_regular
    from tts_train.weights.hub import from_hub as from_hub
    from tts_train.weights.safetensors_file import read_safetensors as read_safetensors
    from tts_train.weights.torch_file import describe_torch as describe_torch, read_torch as read_torch

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".claims": "TensorClaim check_regular",
        ".hub": "from_hub",
        ".safetensors_file": "read_safetensors",
        ".torch_file": "describe_torch read_torch",
    },
)
