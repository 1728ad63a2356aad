"""Weights files that somebody else wrote: read without running anything in them."""

from tts_train.weights.claims import StorageClaim, TensorClaim
from tts_train.weights.limits import LIMITS, WeightsLimits, check_regular
from tts_train.weights.safetensors_file import read_safetensors
from tts_train.weights.torch_file import describe_torch, read_torch

__all__ = [
    "LIMITS",
    "StorageClaim",
    "TensorClaim",
    "WeightsLimits",
    "check_regular",
    "describe_torch",
    "read_safetensors",
    "read_torch",
]
