"""Which kernels a run uses: fused ones where they can run, or plain PyTorch; in a plan stand-ins are counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from tts_train.errors import ConfigError
from tts_train.nn.devices import planned_device, runs_on
from tts_train.nn.kernels import interpreted, triton_lacks

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


NAME = "tts_train::left_out"
"""Of the operator; a plan counts it under the name of the kernel that it stands for."""


@torch.library.custom_op(NAME, mutates_args=("written",))
def left_out(name: str, read: Sequence[Tensor], written: Sequence[Tensor], flops: int = 0) -> None:
    """Do nothing: one kernel that would read ``read`` and write ``written``.

    Args:
        name: Of the kernel, such as ``bitsandbytes::adamw8bit``; ``host_copy`` in it means a copy to host memory or
            back.
        read: What it reads.
        written: What it writes; what it changes in place is in both.
        flops: Operations of a product in it.
    """


@left_out.register_fake
def _(*_: object, **__: object) -> None:
    return None
