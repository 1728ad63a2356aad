"""What computes nothing in a step on shapes: parameters without memory, and stand-ins for kernels that need numbers.

Those are the layers of 4 and 8 bits, of which it is known what they keep and briefly make, and optimisers whose states
are made as always while the kernel is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from tts_train.nn.kernels.choice import left_out


class Shapes:
    """Turns tensors into fake ones; integers stay real, so that lengths, masks and positions have their values.

    No mode is active while a step runs: an operator on a fake tensor is computed as shapes, one on real tensors alone
    for real. So code that looks at the lengths of a batch works unchanged.
    """

    def __init__(self) -> None:
        # Real integers meet fakes in one operator: lengths and positions of a batch are real.
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(self, tensor: Tensor) -> Tensor:
        """Return a fake of the same shape and type, on the CPU."""
        if isinstance(tensor, FakeTensor):
            return tensor
        # Made outside of the tracker, which would count it before its kind is known.
        with _disable_current_modes(), self._mode:
            # "cpu" whatever the run's device: a fake CUDA tensor would look for a card.
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
                # Tied weights stay one tensor, and are counted once.
                if parameter not in made:
                    fake = nn.Parameter(self.fake(parameter.detach()), requires_grad=parameter.requires_grad)
                    made[parameter] = made[fake] = fake
                part._parameters[name] = made[parameter]
            for name, buffer in list(part.named_buffers(recurse=False, remove_duplicate=False)):
                # Real buffers, such as rotary frequencies, are small and may be read for their values.
                if buffer.device.type == "meta":
                    part._buffers[name] = self.fake(buffer)


_NF4_BLOCK, _NESTED_BLOCK = 64, 256


class QuantisedShape(nn.Linear):
    """A frozen linear layer as bitsandbytes keeps it, of shapes only.

    Of 4 bits (NF4 with double quantisation, Dettmers et al. 2023, arXiv 2305.14314): half a byte a weight, a byte for
    64 of them and four for 16,384; the matrix exists in the type of the products while one is computed, forward and
    backward. Of 8 bits (Dettmers et al. 2022, arXiv 2208.07339): a byte a weight and four a row; the matrix is made
    likewise.

    Args:
        linear: The layer that it stands for.
        bits: 4 or 8.
    """

    def __init__(self, linear: nn.Linear, bits: Literal[4, 8]) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.bits = bits
        self.compute = linear.weight.dtype
        size, meta = linear.weight.numel(), torch.device("meta")
        self.weight = nn.Parameter(torch.empty(size * bits // 8, 1, dtype=torch.uint8, device=meta), False)
        scales = {"absmax": (size // _NF4_BLOCK, torch.uint8), "nested": (size // _NF4_BLOCK // _NESTED_BLOCK, None)}
        self.bias = linear.bias
        for name, (count, dtype) in (scales if bits == 4 else {"rows": (self.out_features, None)}).items():
            self.register_buffer(name, torch.empty(count, dtype=dtype or torch.float32, device=meta), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., out_features) in the type that the layer computes in."""
        # bitsandbytes casts its input to the type that the layer computes in, and not back.
        states = input.to(self.compute)
        product: Tensor = _Product.apply(states, self)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            product = product + self.bias
        # PEFT copies the result of 4 bits before it adds the adapter's; a fused adapter, without gradients, does not.
        return product.clone() if self.bits == 4 and torch.is_grad_enabled() else product

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix (out_features, in_features) that the bits stand for."""
        made = self.weight.new_empty(self.out_features, self.in_features, dtype=dtype)
        left_out("bitsandbytes::dequantize", [self.weight, *self.buffers()], [made])
        return made


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, linear: QuantisedShape) -> Tensor:  # noqa: ANN401 - autograd's context
        ctx.linear = linear
        return states @ linear.matrix(states.dtype).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return grad @ ctx.linear.matrix(grad.dtype), None


@contextmanager
def eight_bit_without_kernels() -> Iterator[None]:
    """Within the block bitsandbytes' optimisers allocate their states and update nothing.

    Their update is one kernel a parameter that works in place; it is counted as one. Paged states are
    counted as if they stayed on the card, where they are while there is room.
    """
    try:
        from bitsandbytes.optim import optimizer as bnb
    except ImportError:
        yield
        return
    with ExitStack() as stack:
        for kind in (bnb.Optimizer1State, bnb.Optimizer2State):
            # The call that launches the kernel, after the states have been made.
            stack.enter_context(patch.object(kind, "update_step", _no_update))
        yield


def _no_update(optimizer: Any, _: object, parameter: Tensor, *__: object) -> None:  # noqa: ANN401 - bitsandbytes' own
    """Take the place of ``Optimizer8bit.update_step``."""
    states = [value for value in optimizer.state[parameter].values() if isinstance(value, Tensor)]
    kept = [parameter.detach(), *states]
    if parameter.grad is not None:
        left_out(f"bitsandbytes::{optimizer.optimizer_name}", [parameter.grad, *kept], kept)
