"""An optimiser that steps one parameter at a time: inside backward, from states in host memory, or into bfloat16."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from tts_train.nn.devices import planned_device
from tts_train.nn.kernels import fused as runs_fused
from tts_train.optim.kernels import fused
from tts_train.optim.kernels.flags import StepFlags, is_set, not_finite
from tts_train.optim.options import OptimizerOptions
from tts_train.optim.streamed.host import HostArena, StateRing
from tts_train.optim.streamed.rules import BLOCK, Rule, parameter_key, round_stochastically, step_key
from tts_train.optim.streamed.slots import MASTER, Slot, local, places_for

logger = logging.getLogger(__name__)

# A parameter's newest optimiser steps it; one of an earlier fit of the same module must not step it too.
_hooks = WeakTensorKeyDictionary()


class TakesGradients(Protocol):
    """What a hook calls."""

    def receive(self, parameter: nn.Parameter) -> None:
        """Use the gradient that ``parameter`` has just got."""


def call_on_gradient(parameter: nn.Parameter, optimizer: TakesGradients) -> None:
    """Call ``optimizer.receive`` for each gradient of ``parameter``, in place of what an earlier call asked for.

    The hook keeps no optimiser alive.
    """
    earlier: RemovableHandle | None = _hooks.get(parameter)  # type: ignore[no-untyped-call]
    if earlier is not None:
        earlier.remove()
    hook = functools.partial(_on_gradient, weakref.ref(optimizer))
    _hooks[parameter] = parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]


@torch.no_grad()
def _on_gradient(optimizer: weakref.ref[TakesGradients], parameter: Tensor) -> None:
    owner = optimizer()
    if owner is not None:
        assert isinstance(parameter, nn.Parameter)
        owner.receive(parameter)


PIECE = 1 << 22
"""Elements whose float32 copies, or whose states from host memory, are on the device at a time."""


class StreamedOptimizer(Optimizer):
    """Steps parameters one by one; its results do not depend on when.

    With ``in_backward`` a hook steps a parameter as soon as backward has its whole gradient, which is dropped then; a
    tied weight is stepped once. Gradients that are not finite are dropped instead, and so are all that come after
    them in the same backward, so that no weight ever becomes non-finite through a gradient. :meth:`hold` drops all
    gradients of the coming backward, and ``found_inf`` those of the coming step. :meth:`step` ends the step.

    Where Triton runs (:func:`tts_train.nn.kernels.fused`) a step is one pass over memory, and parameters of one kind
    that are stepped after backward are stepped in one launch. Flags and step counts then lie on the device and the
    host never reads them. Elsewhere the host reads whether a gradient is finite, which on a CPU is no wait.

    Random bits of stochastic rounding are a function of the parameter's place, its step count and the element's number
    in the whole parameter: a continued run draws the same ones, on any device, and no other random number moves.

    Args:
        groups: Parameter groups, each with its ``weight_decay``.
        rule: How a flat piece is stepped.
        options: Numbers, and when and where to step.
    """

    def __init__(self, groups: list[dict[str, Any]], rule: Rule, options: OptimizerOptions) -> None:
        self.kind = options.name  # of the states; those of adamw are torch's
        self.in_backward = options.in_backward
        self.found_inf: Tensor | None = None
        """If set to a tensor of 1, the coming :meth:`step` changes nothing; 0-d float32, as torch's fused AdamW."""
        self._dropped, self._held = 0, False
        self._flags: StepFlags | None = None
        # Asked for at the first step: parameters may be moved to the card, or sharded, after the optimiser is made.
        self._fused: bool | None = None
        self._rule = rule
        self._options = options
        super().__init__(groups, {"lr": options.lr, "betas": options.betas, "eps": options.eps})
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._places = {id(parameter): place for place, parameter in enumerate(parameters)}
        # Seed 0 whatever the run's: bits of rounding need be even, not secret, and a continued run need not carry a
        # seed.
        self._keys = [parameter_key(0, place) for place in range(len(parameters))]
        if self.in_backward:
            for parameter in parameters:
                call_on_gradient(parameter, self)

    @property
    def skips_on_device(self) -> bool:
        """Whether ``found_inf`` is honoured without the host reading it."""
        return self._is_fused

    @property
    def refused(self) -> Tensor:
        """Whether gradients of the present backward were dropped (0-d, on the parameters' device)."""
        if self._is_fused:
            return self._device_flags.held > 0
        return torch.tensor(self._dropped > 0)

    @property
    def dropped(self) -> int:
        """Gradients of the present backward that were dropped; with flags on the device, which it reads, 1 for any."""
        return int(self.refused) if self._is_fused else self._dropped

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401
        """Run ``closure`` (forward and backward), then step every parameter that still has a gradient."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        if self._is_fused and self.found_inf is not None:
            self._device_flags.hold(self.found_inf)
        if self._is_fused or self.found_inf is None or not is_set(self.found_inf):
            for group in self.param_groups:
                ready = [parameter for parameter in group["params"] if parameter.grad is not None]
                if self._is_fused and not self._options.offload:
                    self._launch(ready, group)
                else:
                    for parameter in ready:
                        self._update(parameter, group)
        if self._flags is not None:
            self._flags.end_step()
        self._held, self._dropped, self.found_inf = False, 0, None
        return result

    @torch.no_grad()
    def hold(self, flag: Tensor | None = None) -> None:
        """Drop the gradients of the coming backward, if ``flag`` (0-d) is not 0: its loss is not finite."""
        if self._is_fused:
            self._device_flags.hold(flag)
        else:
            self._held = flag is None or is_set(flag)

    def state_dict(self) -> dict[str, Any]:
        """Return the states in the parameters' shapes, and the groups; adamw's are named as torch's are."""
        self._wait_for_states()
        packed: dict[str, Any] = super().state_dict()
        if self._flags is not None and planned_device() is None:
            counts = self._flags.counts.tolist()
            for parameter, slot in self.state.items():
                # Counts live on the device while steps are launched; a checkpoint is where the host reads them.
                slot.count = int(counts[self._places[id(parameter)]])
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
        self._wait_for_states()
        self._flags = None  # made again, with the counts that follow
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
            for parameter, place in zip(group["params"], saved["params"], strict=True):
                # Never copied into an old slot, whose states may be of another type or lie elsewhere.
                self.state.pop(parameter, None)
                if place in state_dict["state"]:
                    slot = self._slot(parameter)
                    slot.restore(parameter, state_dict["state"][place])

    def _wait_for_states(self) -> None:
        if self._options.offload and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # the last step's states may still be on their way to host memory

    def receive(self, parameter: nn.Parameter) -> None:
        """Step ``parameter`` with the gradient that backward has just finished, and drop the gradient."""
        assert parameter.grad is not None
        grad, group = local(parameter.grad), self._group_of(parameter)
        if self._is_fused:
            fused.mark_nonfinite(grad.reshape(-1), self._device_flags.held)
            self._update(parameter, group)
        else:
            self._held = self._held or is_set(not_finite(grad))
            if self._held:
                self._dropped += 1
            else:
                if self._options.clip_value is not None:
                    grad.clamp_(-self._options.clip_value, self._options.clip_value)
                self._update(parameter, group)
        # Before the next parameter's gradient is made: that one gradient exists at a time is what saves the memory.
        parameter.grad = None

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        """Step one parameter, in pieces where its states are in host memory."""
        assert parameter.grad is not None
        slot = self._slot(parameter)
        weight, grad = local(parameter.detach()), local(parameter.grad).reshape(-1)
        flat = weight.reshape(-1)  # a view wherever the weight's memory is in order
        # Triton rounds in registers; elsewhere the float32 copy of the whole weight would take twice its memory.
        wide = self._wide(parameter) and not self._is_fused
        size = PIECE if wide or self._options.offload else max(flat.numel(), 1)
        assert size == flat.numel() or size % BLOCK == 0
        # On the device the kernel counts, and does not where a step is held back.
        slot.count += not self._is_fused
        for start in range(0, flat.numel(), size):
            end = min(start + size, flat.numel())
            state = slot.take(start, end)
            if self._is_fused:
                self._step_parts([self._part(parameter, slot, flat[start:end], grad[start:end], state, start)], group)
            else:
                self._update_piece(parameter, slot, flat[start:end], grad[start:end], state, start, group)
            slot.put(start, end, state)
        if not weight.is_contiguous():
            weight.copy_(flat.view_as(weight))

    def _update_piece(
        self,
        parameter: nn.Parameter,
        slot: Slot,
        weight: Tensor,
        grad: Tensor,
        state: dict[str, Tensor],
        start: int,
        group: dict[str, Any],
    ) -> None:
        """Step a piece with the rule of the library, and round."""
        rounds = self._wide(parameter) and MASTER not in slot.states
        exact = weight.float() if rounds else state.get(MASTER, weight)
        self._rule.step(exact, grad.to(exact.dtype), state, count=slot.count, group=group)
        if rounds:
            key = step_key(self._key(parameter), slot.count)
            weight.copy_(round_stochastically(exact, key, start=slot.first + start))
        elif exact is not weight:
            weight.copy_(exact)

    def _launch(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Step whole parameters, those of one kind in one launch."""
        kinds: dict[object, list[fused.Part]] = {}
        # Copied back after the one launch, not between launches.
        scattered: list[tuple[Tensor, Tensor]] = []
        for parameter in parameters:
            assert parameter.grad is not None
            slot, weight = self._slot(parameter), local(parameter.detach())
            flat, grad = weight.reshape(-1), local(parameter.grad).reshape(-1)
            part = self._part(parameter, slot, flat, grad, slot.states, 0)
            kinds.setdefault(part.kind, []).append(part)
            if not weight.is_contiguous():
                scattered.append((weight, flat))
        for parts in kinds.values():
            self._step_parts(parts, group)
        for weight, flat in scattered:
            weight.copy_(flat.view_as(weight))

    def _part(
        self, parameter: nn.Parameter, slot: Slot, weight: Tensor, grad: Tensor, state: Mapping[str, Tensor], start: int
    ) -> fused.Part:
        names = {span: [n for n in state if slot.spans[n] == span and n != MASTER] for span in (1, BLOCK)}
        own = {span: [state[name] for name in chosen] for span, chosen in names.items()}
        place, key = self._places[id(parameter)], self._key(parameter)
        return fused.Part(weight, grad, own[1], own[BLOCK], state.get(MASTER), slot.first + start, place, key)

    def _step_parts(self, parts: list[fused.Part], group: dict[str, Any]) -> None:
        rounding = {"stochastic": fused.STOCHASTIC, "master": fused.MASTER}.get(self._options.rounding, fused.NEAREST)
        fused.step_parts(
            parts,
            maps=self._rule.maps(self._device_flags.held),
            flags=self._device_flags.all(),
            group=group,
            lion=self._rule.lion,
            # Float32 weights of the same optimiser, such as norms, need no rounding.
            rounding=rounding if parts[0].weight.dtype == torch.bfloat16 else fused.NEAREST,
            clip=self._options.clip_value,
        )

    @property
    def _is_fused(self) -> bool:
        if self._fused is None:
            weight = local(self.param_groups[0]["params"][0].detach())
            self._fused = runs_fused(weight)
            if weight.is_cuda and planned_device() is None:
                how = "in fused Triton kernels" if self._fused else "without Triton, in several passes and with waits"
                logger.info("The optimiser steps %s.", how)
        return self._fused

    @property
    def _device_flags(self) -> StepFlags:
        if self._flags is None:
            parameters = [parameter for group in self.param_groups for parameter in group["params"]]
            slots: list[Any] = [self.state.get(parameter) for parameter in parameters]
            counts = [0 if slot is None else slot.count for slot in slots]
            self._flags = StepFlags(local(parameters[0].detach()), counts)
        return self._flags

    def _slot(self, parameter: nn.Parameter) -> Slot:
        if parameter not in self.state:
            wide, master = self._wide(parameter), self._masters(parameter)
            arena, ring = self._places_for_states if self._options.offload else (None, None)
            slot = Slot(parameter, self._rule, wide=wide, master=master, arena=arena, ring=ring)
            self.state[parameter] = slot
        found: Any = self.state[parameter]
        assert isinstance(found, Slot)
        return found

    @functools.cached_property
    def _places_for_states(self) -> tuple[HostArena, StateRing] | tuple[None, None]:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        kinds = [(parameter, self._wide(parameter), self._masters(parameter)) for parameter in parameters]
        return places_for(kinds, self._rule, PIECE)

    def _masters(self, parameter: nn.Parameter) -> bool:
        return self._wide(parameter) and self._options.rounding == "master"

    def _wide(self, parameter: nn.Parameter) -> bool:
        return self._options.rounding != "nearest" and parameter.dtype == torch.bfloat16

    def _key(self, parameter: nn.Parameter) -> tuple[int, int]:
        return self._keys[self._places[id(parameter)]]

    def _group_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        place = self._places[id(parameter)]
        for group in self.param_groups:
            if place < len(group["params"]):
                return group
            place -= len(group["params"])
        raise AssertionError("every parameter has a group")
