"""Weights files that somebody else wrote: read without running anything in them."""

from tts_train.foreign.claims import StorageClaim, TensorClaim
from tts_train.foreign.limits import LIMITS, Limits
from tts_train.foreign.safetensors_file import check_safetensors, read_safetensors
from tts_train.foreign.torchfile import check_environment, describe_torch, read_torch

__all__ = [
    "LIMITS",
    "Limits",
    "StorageClaim",
    "TensorClaim",
    "check_environment",
    "check_safetensors",
    "describe_torch",
    "read_safetensors",
    "read_torch",
]
