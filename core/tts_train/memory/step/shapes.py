"""A module whose parameters are shapes without memory, for a step that computes nothing."""

from __future__ import annotations

from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes


class Shapes:
    """Turns tensors into fake ones; integers stay real, so that lengths, masks and positions have their values.

    No mode is active while a step runs: an operator on a fake tensor is computed as shapes, one on real tensors alone
    for real. So code that looks at the lengths of a batch works unchanged.
    """

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(self, tensor: Tensor) -> Tensor:
        """Return a fake of the same shape and type, on the CPU."""
        if isinstance(tensor, FakeTensor):
            return tensor
        with _disable_current_modes(), self._mode:
            made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        return made.requires_grad_(tensor.requires_grad)

    def run(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run one operator on shapes. Entering a mode for each would look for a GPU every time, which takes longer."""
        return self._mode.__torch_dispatch__(func, types, args, kwargs)

    def batch(self, batch: Any) -> Any:  # noqa: ANN401 - a batch is whatever the network takes
        """Return a batch with its floating-point tensors fake."""
        return apply_to_collection(batch, Tensor, lambda t: self.fake(t) if t.is_floating_point() else t)

    def module(self, module: nn.Module) -> None:
        """Replace every parameter and every buffer on ``meta``, in place; one that is shared stays shared."""
        made: dict[nn.Parameter, nn.Parameter] = {}
        for part in module.modules():
            for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
                if parameter not in made:
                    fake = nn.Parameter(self.fake(parameter.detach()), requires_grad=parameter.requires_grad)
                    made[parameter] = made[fake] = fake
                part._parameters[name] = made[parameter]
            for name, buffer in list(part.named_buffers(recurse=False, remove_duplicate=False)):
                if buffer.device.type == "meta":
                    part._buffers[name] = self.fake(buffer)
