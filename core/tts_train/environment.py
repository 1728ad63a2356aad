"""What surrounds this process: variables that torch reads, and what other libraries say that nobody needs to read.

The command line and ``import tts_train`` set the variables; importing what computes (``tts_train.nn``,
``tts_train.training.session``) switches cuDNN's attention off. Nothing here imports torch unless it is asked to.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

from tts_train.errors import UnsafeFileError

ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Where a user may have given settings of the CUDA allocator; torch 2.11 reads the first of them that is set."""

EXPANDABLE = "expandable_segments:True"
"""Batches differ in length, so blocks of memory would otherwise be left that fit no later batch."""

UNSAFE_VARIABLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"

_DEFAULTS = {
    # cuBLAS gives equal bits from run to run only with a workspace of a fixed size; this one is its size on Hopper.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Read at torch's first attention on a card: without it cuDNN's comes first on compute capability 9.0 and 10.0.
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
}


def set_variables(environment: MutableMapping[str, str] = os.environ, *, platform: str = sys.platform) -> None:
    """Set the variables that torch and cuBLAS read when CUDA is first used; what the user has set stays.

    Args:
        environment: where they are set.
        platform: the system; torch has segments that expand under Linux only, and warns in each process elsewhere.
    """
    if platform == "linux" and not any(name in environment for name in ALLOCATOR_VARIABLES):
        environment["PYTORCH_ALLOC_CONF"] = EXPANDABLE
    for name, value in _DEFAULTS.items():
        environment.setdefault(name, value)


def refuse_unsafe(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to work where torch is told to run code that it finds in files.

    Args:
        environment: where it is told.

    Raises:
        UnsafeFileError: naming the variable.
    """
    if environment.get(UNSAFE_VARIABLE):
        raise UnsafeFileError(
            f"{UNSAFE_VARIABLE} is set, with which reading a file can run code. Unset it and try again."
        )


def without_cudnn_attention() -> None:
    """Keep ``scaled_dot_product_attention`` from choosing cuDNN, which builds a graph for every new shape.

    Lengths here are new in nearly every batch and at every token that is spoken, and a graph takes 20 to 40 ms.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


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
    # warnings.catch_warnings would take back what libraries add in the block as well, and is not safe in threads.
    added = [each for each in filters if each not in before]
    try:
        yield
    finally:
        for each in added:  # what a library that was imported in the block has added stays
            with suppress(ValueError):
                filters.remove(each)
        for logger, level in levels.items():
            logger.setLevel(level)
