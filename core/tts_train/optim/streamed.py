"""An optimiser that steps one parameter at a time: inside backward, from states in host memory, or into bfloat16."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from tts_train.optim.options import OptimizerOptions
from tts_train.optim.rounding import round_stochastically
from tts_train.optim.rules import BLOCK, Rule
from tts_train.optim.slots import MASTER, Slot, local

PIECE = 1 << 22
"""Elements whose float32 copies, or whose states from host memory, are on the device at a time."""

# A parameter's newest optimiser steps it; one of an earlier fit of the same module must not step it too.
_hooks = WeakTensorKeyDictionary()


class StreamedOptimizer(Optimizer):
    """Steps parameters one by one; its results do not depend on when.

    With ``in_backward`` a hook steps a parameter as soon as backward has its whole gradient, which is dropped then; a
    tied weight is stepped once. Gradients that are not finite are dropped instead, and so are all that come after
    them in the same backward, so that no weight ever becomes non-finite through a gradient; that costs the host a
    wait for each parameter. :meth:`hold` drops all gradients of the coming backward. :meth:`step` ends the step.

    Random bits of stochastic rounding are a function of the parameter's place and its step count alone: a continued
    run draws the same ones, and no other random number moves.

    Args:
        groups: Parameter groups, each with its ``weight_decay``.
        rule: How a flat piece is stepped.
        options: Numbers, and when and where to step.
    """

    def __init__(self, groups: list[dict[str, Any]], rule: Rule, options: OptimizerOptions) -> None:
        self.in_backward = options.in_backward
        self.dropped = 0
        """Gradients of the current backward that were dropped instead of used."""
        self._held = False
        self._rule = rule
        self._options = options
        super().__init__(groups, {"lr": options.lr, "betas": options.betas, "eps": options.eps})
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._places = {id(parameter): place for place, parameter in enumerate(parameters)}
        if self.in_backward:
            for parameter in parameters:
                _replace_hook(parameter, functools.partial(_on_gradient, weakref.ref(self)))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401
        """Run ``closure`` (forward and backward), then step every parameter that still has a gradient."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        self._held, self.dropped = False, 0
        return result

    def hold(self) -> None:
        """Drop the gradients of the coming backward: its loss is not finite."""
        self._held = True

    def state_dict(self) -> dict[str, Any]:
        """Return the states in the parameters' shapes, and the groups; adamw's are named as torch's are."""
        if self._options.offload and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # the last step's states may still be on their way
        packed: dict[str, Any] = super().state_dict()
        slots = {self._places[id(parameter)]: (parameter, slot) for parameter, slot in self.state.items()}
        packed["state"] = {place: slot.describe(parameter) for place, (parameter, slot) in sorted(slots.items())}
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up :meth:`state_dict`, bit for bit and where the states belong.

        Raises:
            ConfigError: if they are the states of another optimiser.
            ValueError: if they are those of other parameters.
        """
        sizes = [
            [len(group["params"]) for group in groups] for groups in (self.param_groups, state_dict["param_groups"])
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(f"The optimiser has groups of {sizes[0]} parameters, its saved state of {sizes[1]}.")
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
            for parameter, place in zip(group["params"], saved["params"], strict=True):
                self.state.pop(parameter, None)
                if place in state_dict["state"]:
                    slot = self._slot(parameter)
                    slot.restore(parameter, state_dict["state"][place])

    def receive(self, parameter: nn.Parameter) -> None:
        """Step ``parameter`` with the gradient that backward has just finished, and drop the gradient."""
        assert parameter.grad is not None
        grad = local(parameter.grad)
        if not self._held and not _finite(grad):
            self._held = True
        if self._held:
            self.dropped += 1
        else:
            if self._options.clip_value is not None:
                grad.clamp_(-self._options.clip_value, self._options.clip_value)
            self._update(parameter, self._group_of(parameter))
        parameter.grad = None

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        slot = self._slot(parameter)
        slot.count += 1
        weight, grad = local(parameter.detach()), local(parameter.grad).reshape(-1)
        flat = weight.reshape(-1)  # a view wherever the weight's memory is in order
        wide = self._wide(parameter)
        size = PIECE if wide or self._options.offload else max(flat.numel(), 1)
        assert size == flat.numel() or size % BLOCK == 0
        generator = self._generator(parameter, slot.count) if wide and MASTER not in slot.states else None
        for start in range(0, flat.numel(), size):
            end = min(start + size, flat.numel())
            state = slot.take(start, end)
            self._update_piece(flat[start:end], grad[start:end], state, slot.count, group, generator)
            slot.put(start, end, state)
        if not weight.is_contiguous():
            weight.copy_(flat.view_as(weight))

    def _update_piece(
        self,
        weight: Tensor,
        grad: Tensor,
        state: dict[str, Tensor],
        count: int,
        group: dict[str, Any],
        generator: torch.Generator | None,
    ) -> None:
        exact = weight.float() if generator is not None else state.get(MASTER, weight)
        self._rule.step(exact, grad.to(exact.dtype), state, count=count, group=group)
        if generator is not None:
            weight.copy_(round_stochastically(exact, generator))
        elif exact is not weight:
            weight.copy_(exact)

    def _slot(self, parameter: nn.Parameter) -> Slot:
        if parameter not in self.state:
            wide = self._wide(parameter)
            master = wide and self._options.rounding == "master"
            slot = Slot(parameter, self._rule, wide=wide, master=master, offload=self._options.offload)
            self.state[parameter] = slot
        found: Any = self.state[parameter]
        assert isinstance(found, Slot)
        return found

    def _wide(self, parameter: nn.Parameter) -> bool:
        return self._options.rounding != "nearest" and parameter.dtype == torch.bfloat16

    def _generator(self, parameter: nn.Parameter, count: int) -> torch.Generator:
        generator = torch.Generator(local(parameter.detach()).device)
        return generator.manual_seed(count * len(self._places) + self._places[id(parameter)])

    def _group_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        place = self._places[id(parameter)]
        for group in self.param_groups:
            if place < len(group["params"]):
                return group
            place -= len(group["params"])
        raise AssertionError("every parameter has a group")


def _replace_hook(parameter: nn.Parameter, hook: Callable[[Tensor], None]) -> None:
    earlier: RemovableHandle | None = _hooks.get(parameter)  # type: ignore[no-untyped-call]
    if earlier is not None:
        earlier.remove()
    _hooks[parameter] = parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]


@torch.no_grad()
def _on_gradient(optimizer: weakref.ref[StreamedOptimizer], parameter: Tensor) -> None:
    owner = optimizer()
    if owner is not None:
        assert isinstance(parameter, nn.Parameter)
        owner.receive(parameter)


def _finite(grad: Tensor) -> bool:
    """Tell whether all of a gradient is finite; the greatest value cannot overflow as a sum of squares can."""
    return not grad.numel() or bool(torch.isfinite(torch.linalg.vector_norm(grad, float("inf"))))
