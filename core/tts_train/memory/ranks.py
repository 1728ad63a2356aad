"""What one process of several holds: the measured step of one, divided as the strategy divides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from tts_train.memory.step.step import Step
from tts_train.memory.step.tracker import Kind
from tts_train.sharding.options import FsdpOptions

_HALF = 2


@dataclass(frozen=True)
class Division:
    """How a run divides its memory over processes; by arithmetic, as the collectives cannot be run on shapes."""

    ranks: int = 1
    """Processes."""
    fsdp: FsdpOptions | None = None
    """How FSDP divides; None where every process has a copy."""
    blocks: tuple[str, ...] = ()
    """Class names of the blocks that are gathered one at a time."""
    half: bool = False
    """Whether weights are gathered in 2 bytes a parameter; otherwise as they are stored."""

    def of(self, step: Step, module: nn.Module) -> Step:
        """Return the step as one process sees it, given one that was measured with :attr:`share`.

        Copies (ddp) add a bucket for every gradient; FSDP adds what is gathered at a time: the blocks in use and ahead,
        and what is in no block.
        """
        if self.ranks == 1:
            return step
        if self.fsdp is None:
            trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
            return _changed(step, {"gradients": trained})
        return _changed(step, {"other": self._gathered(module, self.fsdp)})

    @property
    def share(self) -> float:
        """Part of weights, gradients and states that one process keeps on its card."""
        if self.fsdp is None or self.ranks == 1:
            return 1.0
        return 0.0 if self.fsdp.cpu_offload else self.fsdp.replicas / self.ranks

    def _gathered(self, module: nn.Module, options: FsdpOptions) -> int:
        whole = self._size(module)
        if options.shard == "gradients" or options.wrap == "none":
            return whole
        if options.wrap == "size":
            found = [m for m in module.modules() if sum(p.numel() for p in m.parameters()) >= options.min_parameters]
            blocks = [m for m in found if not any(child in found for child in m.modules() if child is not m)]
        else:
            names = options.blocks or self.blocks
            blocks = [m for m in module.modules() if type(m).__name__ in names]
        sizes = sorted(map(self._size, blocks), reverse=True)
        return whole - sum(sizes) + sum(sizes[: 1 + options.prefetch])

    def _size(self, module: nn.Module) -> int:
        return sum(
            p.numel() * (min(p.element_size(), _HALF) if self.half else p.element_size()) for p in module.parameters()
        )


def _changed(step: Step, change: Mapping[Kind, int]) -> Step:
    breakdown = {kind: size + change.get(kind, 0) for kind, size in step.breakdown.items()}
    return replace(step, peak_bytes=sum(breakdown.values()), breakdown=breakdown)
