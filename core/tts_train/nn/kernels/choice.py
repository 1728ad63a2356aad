"""Which kernels a run uses: fused ones where they can run, or plain PyTorch."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias, get_args

import torch

from tts_train.errors import ConfigError
from tts_train.nn.kernels import interpreted, triton_lacks
from tts_train.nn.target import planned_device, runs_on

Kernels: TypeAlias = Literal["auto", "eager", "fused"]
"""``fused``: one kernel for each normalisation, rotation and activation, written in Triton; ``eager``: plain PyTorch,
the reference; ``auto``: fused on a CUDA GPU that has Triton, else eager."""

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
    if kernels == "fused" and missing and not interpreted():
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
    return triton_lacks(device)
