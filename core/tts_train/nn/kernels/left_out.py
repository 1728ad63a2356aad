"""Stands in a plan for a kernel that cannot run on shapes, so that its traffic is counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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
