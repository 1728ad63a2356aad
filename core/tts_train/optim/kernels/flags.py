"""What a step must know on the device, so that the host need not wait: whether it is held back, and step counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tts_train.nn.devices import planned_device


class StepFlags:
    """One optimiser's flags, on the device of its parameters.

    Args:
        like: A tensor of that device; in a plan it is a shape.
        counts: Steps that each parameter has taken.
    """

    def __init__(self, like: Tensor, counts: Sequence[int]) -> None:
        # Float32, as torch's own found_inf: both may be given to a fused kernel.
        self.held = like.new_zeros((), dtype=torch.float32)
        """1 from the moment on at which the present step is held back."""
        self.counts = like.new_zeros(len(counts), dtype=torch.float32)
        """Steps that each parameter had taken before the present one."""
        if any(counts):
            # Only where a run continues; a first step starts without a copy from the host.
            self.counts.copy_(torch.tensor(counts, dtype=torch.float32))
        self.upcoming = self.counts.clone()
        """The same after it, as far as it has come."""

    def hold(self, flag: Tensor | None) -> None:
        """Hold the step back from here on if ``flag`` (0-d) is not 0; None always does."""
        if flag is None:
            self.held.fill_(1.0)
        else:
            torch.maximum(self.held, flag.to(self.held.device, torch.float32), out=self.held)

    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return them as the fused operator takes them."""
        return self.held, self.counts, self.upcoming

    def end_step(self) -> None:
        """Count the step that has been launched, and let the next one go."""
        self.counts.copy_(self.upcoming)
        self.held.zero_()


def at_once(flag: Tensor) -> bool:
    """Tell whether a flag can be read without waiting for a device: it lies in the host's memory."""
    return flag.device.type == "cpu"


def is_set(flag: Tensor) -> bool:
    """Read a flag; on the host's own memory that is no wait, and no operator. In a plan none is set."""
    if planned_device() is not None:
        return False
    return bool(flag.numpy()) if at_once(flag) else bool(flag)


def not_finite(grad: Tensor) -> Tensor:
    """Return whether any of a gradient is not finite (0-d); the greatest value cannot overflow as a sum can."""
    if not grad.numel():
        return torch.zeros((), dtype=torch.bool)
    return ~torch.isfinite(torch.linalg.vector_norm(grad, float("inf")))
