"""What other libraries say and nobody needs to read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LEVELS = {
    "lightning.pytorch.utilities.rank_zero": logging.WARNING,
    "lightning.pytorch.accelerators": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "bitsandbytes": logging.ERROR,  # it warns on import of a CPU kernel that is optional
}
_ADVICE = (
    ".*args parameter is intended to run from within Python.*",
    ".*does not have many workers.*",
    ".*You're resuming from a checkpoint that ended before the epoch ended.*",
    ".*is smaller than the logging interval.*",
    ".*but have no `val_dataloader`.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*`max_epochs` was not set.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*your dataloader is not resumable",  # Lightning cannot know that the sampler restores the position
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence, in the block, Lightning's advice about things that are decided here, and its notices of what is missing.

    Afterwards loggers and filters of warnings are as the program around it had them.
    """
    loggers = {logging.getLogger(name): level for name, level in _LEVELS.items()}
    levels = {logger: logger.level for logger in loggers}
    filters: Any = warnings.filters
    before = list(filters)
    for logger, level in loggers.items():
        logger.setLevel(level)
    for advice in _ADVICE:
        warnings.filterwarnings("ignore", message=advice)
    added = [each for each in filters if each not in before]
    try:
        yield
    finally:
        for each in added:  # what a library that was imported in the block has added stays
            with suppress(ValueError):
                filters.remove(each)
        for logger, level in levels.items():
            logger.setLevel(level)
