"""Where a parameter's optimiser states lie: on its device or in host memory, whole or as one process's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from tts_train.errors import ConfigError
from tts_train.nn.devices import planned_device, runs_on
from tts_train.optim.streamed.host import HostArena, StateRing, room_for
from tts_train.optim.streamed.rules import BLOCK, Rule

MASTER = "master"
"""The state that holds the weights in float32."""


class Slot:
    """The states of one parameter, or of this process's part of it, each flat.

    No mapping on purpose: trainers move tensors that they find in an optimiser's state to the device.

    Args:
        parameter: Whose states.
        rule: What makes them.
        wide: Step in float32, whatever the parameter's type.
        master: Keep the weights in float32 beside.
        arena: Host memory for the states; None: they lie on the parameter's device.
        ring: Where pieces of them are on the device meanwhile; None where that is the same memory.
    """

    def __init__(
        self,
        parameter: nn.Parameter,
        rule: Rule,
        *,
        wide: bool,
        master: bool,
        arena: HostArena | None = None,
        ring: StateRing | None = None,
    ) -> None:
        weight = local(parameter.detach())
        self._device = weight.device
        self._arena = arena
        self._ring = ring
        self._brought: dict[int, torch.cuda.Event | None] = {}
        dtype = torch.float32 if wide else weight.dtype
        self.count = 0
        """Steps taken, as far as the host knows."""
        self.first = _first_of(parameter)
        """Number of this process's first element within the whole parameter."""
        self.spans: dict[str, int] = dict(rule.spans)
        self.states = rule.new_state(weight.numel(), parameter.numel(), dtype, self._allocate)
        if master:
            self.spans[MASTER] = 1
            self.states[MASTER] = self._allocate(weight.numel(), torch.float32)
            if planned_device() is None:
                self.states[MASTER].copy_(weight.reshape(-1))

    def take(self, start: int, end: int) -> dict[str, Tensor]:
        """Return the states of elements ``start`` (a multiple of ``BLOCK``) to ``end``, on the parameter's device."""
        cuts = self._cut(start, end)
        return cuts if self._ring is None else self._ring.bring(cuts, self._brought.get(start))

    def put(self, start: int, end: int, states: Mapping[str, Tensor]) -> None:
        """Bring back what :meth:`take` gave."""
        if self._ring is not None:
            self._brought[start] = self._ring.send(states, self._cut(start, end))

    def describe(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return the states as a checkpoint holds them: those of one entry an element in the parameter's shape."""
        part = _part_of(parameter)
        found = {"step": torch.tensor(float(self.count))}
        for name, state in self.states.items():
            if self.spans[name] == 1:
                shaped = state.view(local(parameter.detach()).shape)
                found[name] = shaped if part is None else part.wrap(shaped)
            else:
                found[name] = state if part is None else part.wrap_blocks(state)
        return found

    def restore(self, parameter: nn.Parameter, saved: Mapping[str, Tensor]) -> None:
        """Take up :meth:`describe`.

        Raises:
            ConfigError: if the states are those of another optimiser.
        """
        expected = self.describe(parameter)
        # Types and shapes are compared, not names of options: an optimiser that makes the same states may go on.
        kinds = {name: (value.dtype, tuple(value.shape)) for name, value in expected.items() if name != "step"}
        given = {name: (value.dtype, tuple(value.shape)) for name, value in saved.items() if name != "step"}
        if kinds != given:
            raise ConfigError(
                "The checkpoint's optimiser states were made with other settings of --model.optimizer.name or "
                f"rounding: it has {_spelt(given)}, and these settings need {_spelt(kinds)}. Continue with the "
                "settings that the run was begun with, or begin a new run from its weights (--model.init_from)."
            )
        self.count = int(saved["step"])
        for name, state in self.states.items():
            # Cut to this process's states: scales are padded to the longest part.
            state.copy_(local(saved[name]).reshape(-1)[: state.numel()])

    def _cut(self, start: int, end: int) -> dict[str, Tensor]:
        spans = {name: self.spans[name] for name in self.states}
        return {name: self.states[name][start // span : -(-end // span)] for name, span in spans.items()}

    def _allocate(self, size: int, dtype: torch.dtype) -> Tensor:
        if self._arena is None:
            return torch.zeros(size, dtype=dtype, device=self._device)
        if planned_device() is not None:
            # Its shape and type are what counts; host memory is not part of a plan.
            return torch.zeros((), dtype=dtype).expand(size)  # a plan counts what is on the card
        return self._arena.zeros(size, dtype)


def places_for(
    parameters: Sequence[tuple[nn.Parameter, bool, bool]], rule: Rule, piece: int
) -> tuple[HostArena, StateRing] | tuple[None, None]:
    """Return host memory for the states of parameters on a card, and room there for those that are being stepped.

    On a CPU the states lie in host memory anyway.

    Args:
        parameters: With whether each is stepped in float32, and whether its weights are kept so.
        rule: What makes the states.
        piece: Most elements that are stepped at a time.
    """
    like = local(parameters[0][0].detach())
    if runs_on(like.device) != "cuda":
        return None, None
    # Known beforehand, so that chunks of host memory can be few and large.
    whole = sum(_state_bytes(*one, rule, None) for one in parameters)
    ring = StateRing(like, max(_state_bytes(*one, rule, piece) for one in parameters))
    return HostArena(whole, pinned=like.is_cuda), ring


def _state_bytes(parameter: nn.Parameter, wide: bool, master: bool, rule: Rule, most: int | None) -> int:
    def shape(size: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    size = local(parameter.detach()).numel()
    size = size if most is None else min(size, most)
    states = rule.new_state(size, parameter.numel(), torch.float32 if wide else parameter.dtype, shape)
    return room_for({**states, MASTER: shape(size, torch.float32)} if master else states)


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor that may be sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@dataclass(frozen=True)
class _OwnPart:
    parameter: DTensor
    ranks: int

    def wrap(self, state: Tensor) -> Tensor:
        """Return a state of the parameter's shape as a sharded tensor like it."""
        like = self.parameter
        mesh, placements, shape, stride = like.device_mesh, like.placements, like.shape, like.stride()
        return DTensor.from_local(state, mesh, placements, run_check=False, shape=shape, stride=stride)

    def wrap_blocks(self, state: Tensor) -> Tensor:
        """Return the scales of blocks as (ranks, most blocks of a rank): a rank's blocks begin with its part."""
        like = self.parameter
        rows = -(-like.shape[0] // self.ranks)
        # FSDP gives every process the same number of rows but the last ones; the first has the most blocks.
        width = -(-rows * (like.numel() // max(like.shape[0], 1)) // BLOCK)
        padded = state.new_zeros(1, width)
        padded[0, : state.numel()] = state
        placements = [Shard(0) if place.is_shard() else Replicate() for place in like.placements]
        shape = torch.Size((self.ranks, width))
        return DTensor.from_local(padded, like.device_mesh, placements, run_check=False, shape=shape, stride=(width, 1))


def _part_of(parameter: nn.Parameter) -> _OwnPart | None:
    if not isinstance(parameter, DTensor):
        return None
    ranks = 1
    for axis, place in enumerate(parameter.placements):
        ranks *= parameter.device_mesh.size(axis) if place.is_shard() else 1
    return _OwnPart(parameter, ranks)


def _first_of(parameter: nn.Parameter) -> int:
    if not isinstance(parameter, DTensor):
        return 0
    _, begins = compute_local_shape_and_global_offset(parameter.shape, parameter.device_mesh, parameter.placements)
    strides = torch.empty(parameter.shape, device="meta").stride()
    return sum(begin * stride for begin, stride in zip(begins, strides, strict=True))


def _spelt(kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} ({str(dtype)[6:]})" for name, (dtype, _) in sorted(kinds.items())) or "none"
