"""tts-train: one plugin-based trainer for text-to-speech voices.

Importing it sets environment variables of torch's CUDA allocator and of cuBLAS where they are not set
(:mod:`tts_train.environment`); import it before CUDA is used.
"""

from __future__ import annotations

from tts_train import environment
from tts_train.contract.backend import Backend, Curve, Demo, Format, Package, Sharding, Stage
from tts_train.contract.hooks import hookimpl
from tts_train.contract.jobs import ExportJob, PrepareJob, SynthJob
from tts_train.errors import TTSTrainError

environment.set_variables()

__all__ = [
    "Backend",
    "Curve",
    "Demo",
    "ExportJob",
    "Format",
    "Package",
    "PrepareJob",
    "Sharding",
    "Stage",
    "SynthJob",
    "TTSTrainError",
    "hookimpl",
]
