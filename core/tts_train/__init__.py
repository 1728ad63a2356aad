"""tts-train: one plugin-based trainer for text-to-speech voices.

Importing it sets environment variables of torch's CUDA allocator and of cuBLAS where they are not set
(:mod:`tts_train.environment`); import it before CUDA is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tts_train import environment
from tts_train.contract.backend import Backend, Curve, Demo, Format, Package, Sharding, Stage
from tts_train.contract.hooks import hookimpl
from tts_train.contract.jobs import ExportJob, PrepareJob, SynthJob
from tts_train.errors import TTSTrainError

if TYPE_CHECKING:
    from tts_train.jobs.corpus import curate
    from tts_train.jobs.evaluate import evaluate
    from tts_train.jobs.run import export, prepare, speak
    from tts_train.jobs.sample import sample
    from tts_train.training.planning import plan
    from tts_train.training.run import ScoringResult, Training, TrainingResult

environment.set_variables()

_LATE = {
    "ScoringResult": "tts_train.training.run",
    "Training": "tts_train.training.run",
    "TrainingResult": "tts_train.training.run",
    "curate": "tts_train.jobs.corpus",
    "evaluate": "tts_train.jobs.evaluate",
    "export": "tts_train.jobs.run",
    "plan": "tts_train.training.planning",
    "prepare": "tts_train.jobs.run",
    "sample": "tts_train.jobs.sample",
    "speak": "tts_train.jobs.run",
}
"""What a program works with, each with its module: they import torch, and so come when they are asked for."""

__all__ = [
    "Backend",
    "Curve",
    "Demo",
    "ExportJob",
    "Format",
    "Package",
    "PrepareJob",
    "ScoringResult",
    "Sharding",
    "Stage",
    "SynthJob",
    "TTSTrainError",
    "Training",
    "TrainingResult",
    "curate",
    "evaluate",
    "export",
    "hookimpl",
    "plan",
    "prepare",
    "sample",
    "speak",
]


def __getattr__(name: str) -> object:
    """Import what trains when it is first asked for."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_LATE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
