"""A device without float64, as Apple's GPUs are; it is simulated, as far as a CPU can."""

from __future__ import annotations

import torch

APPLE = torch.device("mps")


class OnApple(torch.Tensor):
    """A tensor that says that it lies on such a device, and refuses what that refuses."""

    device = property(lambda self: APPLE)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        made = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(made, torch.Tensor) and made.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype: the MPS framework has none.")
        return made
