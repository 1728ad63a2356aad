"""Optimisers and learning-rate schedules as options that every backend offers.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.optim.options import OptimizerOptions as OptimizerOptions, ScheduleOptions as ScheduleOptions

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".options": "OptimizerOptions ScheduleOptions",
    },
)
