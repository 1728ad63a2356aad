"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tts_train.errors import ConfigError
from tts_train.optim.options import ScheduleOptions


def build_schedule(optimizer: Optimizer, options: ScheduleOptions, total_steps: float) -> LambdaLR:
    """Build the schedule to be stepped once an optimiser step.

    Args:
        optimizer: Its groups' ``lr`` is the rate after warm-up.
        options: The curve.
        total_steps: Optimiser steps of the whole run; may be infinite for ``constant`` without ``warmup_share``.

    Raises:
        ConfigError: if the curve needs the run's end and the run has none.
    """
    return LambdaLR(optimizer, learning_rate_factor(options, total_steps))


def learning_rate_factor(options: ScheduleOptions, total_steps: float) -> Callable[[int], float]:
    """Return the factor on lr as a function of the step, 0 for the first."""
    endless = not math.isfinite(total_steps)
    if endless and (options.name != "constant" or options.warmup_share):
        raise ConfigError(
            f"The {options.name} schedule needs to know where the run ends: give --trainer.max_steps or "
            "--trainer.max_epochs, or use --model.schedule.name constant with warmup_steps."
        )
    # Given in steps it holds for runs of any length, also for one that is prolonged.
    warmup = options.warmup_steps or round(options.warmup_share * (0 if endless else total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            # The first step already moves: it would be lost at a rate of 0.
            return (step + 1) / (warmup + 1)
        if options.name == "constant":
            return 1.0
        progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        shape = 1 - progress if options.name == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return options.final_share + (1 - options.final_share) * shape

    return factor
