"""Optimisers and learning-rate schedules as options that every backend offers."""

from __future__ import annotations

from tts_train.optim.build import build_optimizer, parameter_groups
from tts_train.optim.options import OptimizerName, OptimizerOptions, Rounding, ScheduleName, ScheduleOptions
from tts_train.optim.schedule import build_schedule, learning_rate_factor
from tts_train.optim.streamed.optimizer import StreamedOptimizer

__all__ = [
    "OptimizerName",
    "OptimizerOptions",
    "Rounding",
    "ScheduleName",
    "ScheduleOptions",
    "StreamedOptimizer",
    "build_optimizer",
    "build_schedule",
    "learning_rate_factor",
    "parameter_groups",
]
