"""Optimisers and learning-rate schedules as options that every backend offers.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.optim.build import build_optimizer as build_optimizer, parameter_groups as parameter_groups
    from tts_train.optim.options import (
        OptimizerName as OptimizerName,
        OptimizerOptions as OptimizerOptions,
        Rounding as Rounding,
        ScheduleName as ScheduleName,
        ScheduleOptions as ScheduleOptions,
    )
    from tts_train.optim.schedule import build_schedule as build_schedule, learning_rate_factor as learning_rate_factor
    from tts_train.optim.streamed.optimizer import StreamedOptimizer as StreamedOptimizer

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".build": "build_optimizer parameter_groups",
        ".options": "OptimizerName OptimizerOptions Rounding ScheduleName ScheduleOptions",
        ".schedule": "build_schedule learning_rate_factor",
        ".streamed.optimizer": "StreamedOptimizer",
    },
)
