"""tts-train: one plugin-based trainer for text-to-speech voices."""

from __future__ import annotations

from tts_train.backend import Backend, Demo, Format, ShardingPlan, Stage
from tts_train.errors import TTSTrainError
from tts_train.hookspecs import hookimpl
from tts_train.jobs import ExportJob, PrepareJob, SynthJob

__all__ = [
    "Backend",
    "Demo",
    "ExportJob",
    "Format",
    "PrepareJob",
    "ShardingPlan",
    "Stage",
    "SynthJob",
    "TTSTrainError",
    "hookimpl",
]
