"""Weights files that somebody else wrote: read without running anything in them."""

from tts_train.weights.claims import StorageClaim, TensorClaim
from tts_train.weights.limits import LIMITS, Limits
from tts_train.weights.safetensors_file import check_safetensors, read_safetensors
from tts_train.weights.torchfile import check_environment, describe_torch, read_torch

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
