"""Which kernels a run uses: fused ones where they can run, or plain PyTorch."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

import torch

from tts_train.errors import ConfigError
from tts_train.nn.target import planned_device, runs_on

Kernels: TypeAlias = Literal["auto", "eager", "fused"]
"""``fused``: one kernel for each normalisation, rotation and activation, written in Triton; ``eager``: plain PyTorch,
the reference; ``auto``: fused on a CUDA GPU that has Triton, else eager."""

_OLDEST = (7, 5)

logger = logging.getLogger(__name__)


def choose_fused(kernels: Kernels, device: torch.device) -> bool:
    """Tell whether a run on ``device`` uses fused kernels, and log it.

    In a plan the device is the one planned for.

    Raises:
        ConfigError: if they are asked for and cannot run.
    """
    if kernels not in get_args(Kernels):
        raise ConfigError(f"--model.kernels is one of {', '.join(get_args(Kernels))}, and {kernels!r} was given.")
    if kernels == "eager":
        logger.info("--model.kernels eager: plain PyTorch.")
        return False
    missing = _missing(device)
    if kernels == "fused" and missing and not _interpreted():
        raise ConfigError(f"--model.kernels fused cannot run here: {missing}. Give --model.kernels auto or eager.")
    if missing and kernels == "auto":
        logger.info("--model.kernels auto: eager, plain PyTorch, since %s.", missing)
        return False
    logger.info("--model.kernels %s: fused Triton kernels.", kernels)
    return True


def _missing(device: torch.device) -> str | None:
    """Return what fused kernels lack on ``device``; None where they run."""
    if runs_on(device) != "cuda":
        return f"the kernels are for CUDA GPUs and the run is on {runs_on(device)}"
    if planned_device() is not None:
        return None
    if find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < _OLDEST:
        return f"{torch.cuda.get_device_name(device)} is older than Triton serves (compute capability 7.5)"
    return None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
