"""A plan: one recipe's step on shapes, divided over processes; the largest batch that fits a card; hours an epoch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, UnsupportedOperatorException
from torch.utils.checkpoint import CheckpointError

from tts_train.contract.data import StageData
from tts_train.contract.module import StageModule
from tts_train.errors import ConfigError, TTSTrainError
from tts_train.memory.cards import CARDS, GIB, Card
from tts_train.memory.search import LargestBatch, LeastRecomputed, recomputes
from tts_train.memory.step.ledger import UNCERTAINTY, Estimate, estimate
from tts_train.memory.step.shapes import QuantisedShape
from tts_train.memory.step.step import Step, run_steps
from tts_train.memory.step.tracker import LASTING, Kind
from tts_train.sharding.options import FsdpOptions

logger = logging.getLogger(__name__)

# Bytes.
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
            # DDP keeps its buckets for the whole run, beside the gradients.
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
        # The largest blocks might follow each other; a plan errs on the safe side.
        sizes = sorted(map(self._size, blocks), reverse=True)
        # What is in no block, embedding and head, stays gathered from forward to backward.
        return whole - sum(sizes) + sum(sizes[: 1 + options.prefetch])

    def _size(self, module: nn.Module) -> int:
        return sum(
            p.numel() * (min(p.element_size(), _HALF) if self.half else p.element_size()) for p in module.parameters()
        )


def _changed(step: Step, change: Mapping[Kind, int]) -> Step:
    breakdown = {kind: size + change.get(kind, 0) for kind, size in step.breakdown.items()}
    return replace(step, peak_bytes=sum(breakdown.values()), breakdown=breakdown)


# The next four are set from eight runs of a 3.3 B model on one H200 (torch 2.11, driver 580), so that each lies
# within: benchmarks/results/2026-11-28-gpu-h200. Other cards were not measured; most have smaller contexts.
CONTEXT_BYTES = int(0.77 * GIB)
"""What CUDA and the kernels of its libraries take on a card: 0.67 GiB, with states in host memory 0.76."""
WORKSPACE_BYTES = 64 * 2**20
"""cuBLAS's workspaces, of 32 MiB on Hopper: one for the thread of forward, one for that of backward."""
GAPS_BYTES = int(0.42 * GIB)
"""What the allocator loses in any run: 0.21 to 0.37 GiB where little is short-lived."""
GAPS = 0.03
"""What it loses besides, as a share of the short-lived tensors (all but weights, gradients, states): 0.5 GiB of 20."""
ONE_PROCESS = Division()


@dataclass(frozen=True)
class Plan:
    """What a run needs on each of its cards."""

    option: str
    """What bounds a batch: ``data.max_tokens`` or the like."""
    step: Step
    """The step at the recipe's own size, as one process sees it."""
    recomputed: float | None
    """The share of the layers that is recomputed, where the module leaves it to the plan; None where it does not."""
    least_bytes: int
    """What a card needs with all of these recomputed."""
    listening_bytes: int
    """What generation takes where the run is listened to, besides weights and states."""
    gpu_bytes: int | None
    """The card's memory, None where none was named."""
    largest: int | None
    """The largest value of ``option`` that fits; None where no card was named, 0 where nothing fits."""
    largest_tokens: float | None
    """Tokens in a batch of that size."""
    parameters: int
    trained: int
    accumulate: int
    ranks: int
    batches: int | None
    """Batches of an epoch, all ranks together; None where the data are not there."""
    tokens: float
    """Tokens of the recipe's own batch; where the stage counts none, its size."""
    notes: Sequence[str] = field(default=())

    @property
    def needed_bytes(self) -> int:
        """The peak, of training or of what is generated to be heard, and what a card needs besides the tensors."""
        return max(needed(self.step), speaking(self.step, self.listening_bytes))

    @property
    def fits(self) -> bool | None:
        """Whether the recipe's own batch fits the card; None where no card was named."""
        return None if self.gpu_bytes is None else self.needed_bytes <= self.gpu_bytes

    @property
    def step_flops(self) -> int:
        """Operations of an optimiser step, all ranks together."""
        return self.step.batch_flops * self.accumulate * self.ranks

    def epoch_hours(self, card: Card) -> tuple[float, float] | None:
        """Return least and most hours of an epoch with ``ranks`` such cards; None where the data are not there."""
        if self.batches is None:
            return None
        # Batches are shared by the processes, and a step takes several where they are accumulated.
        hours, step = self.batches / self.ranks / self.accumulate / 3600, self.on(card)
        # Beside a fast card a slow host decides: the most is with the slowest that was measured.
        return hours * step.seconds * (1 - UNCERTAINTY), hours * step.slow_seconds * (1 + UNCERTAINTY)

    def fits_on(self, card: Card) -> bool:
        """Tell whether a card has room for the step, with all layers recomputed where the module leaves that open."""
        return min(self.needed_bytes, self.least_bytes) <= card.memory_bytes

    def on(self, card: Card) -> Estimate:
        """Return how long a step takes on a card, by roofline; what processes send each other is left out."""
        return estimate(self.step.operations, card, batches=self.accumulate)

    def report(self) -> dict[str, Any]:
        """Return the plan in plain types, as ``tts-train plan --json`` prints it."""
        return {
            "peak_bytes": self.step.peak_bytes,
            "breakdown": dict(self.step.breakdown),
            "needed_bytes": self.needed_bytes,
            "gpu_bytes": self.gpu_bytes,
            "fits": self.fits,
            self.option: self.step.size,
            "checkpoint_share": self.recomputed,
            "least_bytes": self.least_bytes,
            "listening_bytes": self.listening_bytes,
            "largest": None if self.largest is None else {self.option: self.largest},
            "max_tokens_per_batch": None if self.largest_tokens is None else int(self.largest_tokens),
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            "ranks": self.ranks,
            "step_flops": self.step_flops,
            "batches_per_epoch": self.batches,
            "cards": {card.name: self._on(card) for card in CARDS},
            "notes": list(self.notes),
        }

    def _on(self, card: Card) -> dict[str, Any]:
        hours = self.epoch_hours(card)
        return {
            "memory_bytes": card.memory_bytes,
            "fits": self.fits_on(card),
            "epoch_hours": None if hours is None else [round(one, 3) for one in hours],
        }


def needed(step: Step) -> int:
    """Return the memory of a card that a step needs."""
    # Lasting tensors are allocated once and leave no gaps.
    passing = sum(size for kind, size in step.breakdown.items() if kind not in LASTING)
    return step.peak_bytes + _besides(passing)


def speaking(step: Step, generation: int) -> int:
    """Return the memory of a card that generation needs beside weights and states, while no gradients are there."""
    # Listening comes between steps, when DropGradients has let go of the gradients.
    lasting = step.breakdown["weights"] + step.breakdown["optimizer"]
    return lasting + generation + _besides(generation)


def _besides(passing: int) -> int:
    """Return what a card needs besides the tensors, given the bytes of those that are short-lived."""
    return CONTEXT_BYTES + WORKSPACE_BYTES + GAPS_BYTES + int(GAPS * passing)


def make_plan(
    module: LightningModule,
    data: StageData,
    trainer: Mapping[str, Any],
    *,
    size: int | None = None,
    gpu_bytes: int | None = None,
    division: Division = ONE_PROCESS,
    search: bool = True,
    device: str = "cuda",
    listened: int = 0,
) -> Plan:
    """Plan a run.

    Args:
        module: Freshly built; it is not to be used afterwards.
        data: Freshly built; it is set up if its data are there.
        trainer: Values of ``--trainer.*``.
        size: Size of the batch; None takes the data module's own.
        gpu_bytes: Memory of the card.
        division: The processes.
        search: Whether to look for the largest batch that fits the card.
        device: What the run is for, ``cuda`` or ``cpu``.
        listened: Passages that are spoken at once to be heard while the run trains.

    Raises:
        ConfigError: if the stage cannot be planned.
    """
    first = data.bound if size is None else size
    if first is None:
        raise ConfigError(f"This stage cannot be planned without a number: give --data.{data.budget}.")

    def needs(step: Step) -> int:
        step = division.of(step, module)
        return max(needed(step), speaking(step, _listening_bytes(module, listened)))

    seeker = LargestBatch(first, gpu_bytes if search else None, needs)
    chooser = recomputes(module)
    least = None if chooser is None else LeastRecomputed(chooser, seeker, gpu_bytes, needs)
    try:
        # One call for all sizes: building the module again for each would take longer than its steps.
        steps = run_steps(module, data.sample_batch, least or seeker, trainer, share=division.share, device=device)
    except (DynamicOutputShapeException, UnsupportedOperatorException) as error:
        raise ConfigError(
            f"This stage cannot be planned: its training step needs the values of a tensor at {error.func}, and a plan "
            "has shapes only. Compute it from integers of the batch, which are real in a plan."
        ) from error
    except CheckpointError as error:
        raise ConfigError(f"This stage cannot be planned with recomputed activations: {error}") from error
    share, step = (None, steps[0]) if least is None else least.chosen(steps)
    largest = seeker.largest(steps if least is None else least.full(steps))
    return Plan(
        option=f"data.{data.budget}",
        step=division.of(step, module),
        recomputed=share,
        # The first step is always the one with all layers recomputed.
        least_bytes=needs(steps[0]),
        listening_bytes=_listening_bytes(module, listened),
        gpu_bytes=gpu_bytes,
        largest=largest,
        largest_tokens=None if largest is None else _tokens(module, data, largest),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        trained=sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        accumulate=int(trainer.get("accumulate_grad_batches") or 1),
        ranks=division.ranks,
        batches=_batches(data),
        tokens=_tokens(module, data, first),
        notes=_notes(module, trainer, division),
    )


def _listening_bytes(module: LightningModule, passages: int) -> int:
    return module.voice_bytes(passages) if passages and isinstance(module, StageModule) else 0


def _tokens(module: LightningModule, data: StageData, size: int) -> float:
    if size == 0 or not isinstance(module, StageModule):
        return float(size)
    work = module.work_in(data.sample_batch(size))
    return float(size if work is None else work.tokens)


def _batches(data: StageData) -> int | None:
    try:
        data.setup("fit")
    except TTSTrainError as error:
        logger.info("No time per epoch, since the data cannot be opened: %s", error)
        return None
    return len(data.train_batches(0))


def _notes(module: nn.Module, trainer: Mapping[str, Any], division: Division) -> list[str]:
    notes = [
        f"Besides the tensors, as measured on one H200: {_besides(0) / GIB:.2f} GiB for CUDA, its libraries and gaps "
        f"that the allocator leaves, and {GAPS:.0%} of the short-lived tensors for more gaps."
    ]
    if any(isinstance(part, QuantisedShape) for part in module.modules()):
        notes.append("Quantised layers are by arithmetic: their kernels cannot run on shapes.")
    if str(trainer.get("precision")).startswith("16"):
        notes.append("float16 is counted as bfloat16, of the same size.")
    if division.ranks > 1:
        notes.append(f"The division over {division.ranks} processes is by arithmetic; NCCL's buffers are left out.")
    return notes
