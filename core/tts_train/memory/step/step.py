"""Real training steps of a module whose weights are shapes: Lightning's own loop, its memory and its work."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from tts_train.contract.module import StageModule
from tts_train.memory.step.fused import fused_kernels
from tts_train.memory.step.gradients import DropGradients
from tts_train.memory.step.ledger import Operation, StepLedger
from tts_train.memory.step.shapes import Shapes, eight_bit_without_kernels
from tts_train.memory.step.tracker import Kind, PeakTracker
from tts_train.nn.devices import planning_for
from tts_train.run.loops import leave_signals_alone

SETTINGS = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
"""Options of the trainer that change a step."""

# More than any search takes.
_MOST_STEPS = 20
# Precisions that the CPU cannot compute in, and those of the same sizes.
_CPU_HAS_NO = {"16-mixed": "bf16-mixed", "16": "bf16-mixed", "16-true": "bf16-true"}


@dataclass(frozen=True)
class Step:
    """What an optimiser step takes that is not the first: the optimiser's states are there."""

    size: int
    """Size of the batch, in what bounds a batch of this stage."""
    peak_bytes: int
    """Highest sum of live tensors."""
    breakdown: Mapping[Kind, int]
    """That sum by kind."""
    batch_flops: int
    """Floating-point operations of one batch's forward and backward, recomputation included."""
    operations: Mapping[Operation, float] = field(default_factory=dict, compare=False, repr=False)
    """How often each operation occurs in one batch's forward and backward, and in one optimiser step."""


NextSize: TypeAlias = Callable[[Sequence[Step]], "int | None"]
"""Given the steps so far, the size to try next; None ends it."""


def run_steps(
    module: LightningModule,
    sample: Callable[[int], Any],
    next_size: NextSize,
    trainer: Mapping[str, Any],
    *,
    share: float = 1.0,
    device: str = "cuda",
) -> list[Step]:
    """Run optimiser steps on batches of the sizes asked for, without memory for weights or activations.

    Args:
        module: Freshly built; it is not to be used afterwards.
        sample: Makes a batch of a size, on the CPU.
        next_size: Says which.
        trainer: Values of ``--trainer.*``; those of ``SETTINGS`` are used.
        share: Part of weights, gradients and states that one process of several keeps.
        device: What the run is for: where the kernels of ``cuda`` differ in memory, they are the ones that count.
    """
    shapes = Shapes()
    # Told by the stage, so that logits can be told from other activations.
    vocabulary = module.vocabulary if isinstance(module, StageModule) else None
    tracker = PeakTracker(shapes, share=share, vocabulary=vocabulary)
    settings = {name: trainer[name] for name in SETTINGS if trainer.get(name) is not None}
    # With two batches a step the second finds the first one's gradients; more change nothing.
    settings["accumulate_grad_batches"] = min(int(settings.get("accumulate_grad_batches", 1)), 2)
    given = str(settings.get("precision"))
    settings["precision"] = _CPU_HAS_NO.get(given, settings.get("precision"))
    batches = _Batches(sample, next_size, shapes, each=settings["accumulate_grad_batches"])
    phases = _Phases(tracker, batches)
    runner = Trainer(
        strategy=_ShapesStrategy(shapes, tracker),
        accelerator="cpu",
        # Under SLURM or torchrun Lightning would look for the other processes of a run.
        plugins=[LightningEnvironment()],
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        callbacks=[DropGradients(), phases],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        # A fake loss has no value to log.
        log_every_n_steps=10**9,
        **settings,
    )
    leave_signals_alone(runner)
    loader = DataLoader(batches, batch_size=None, collate_fn=itself)
    with (
        torch.random.fork_rng(devices=[]),
        planning_for(device),
        fused_kernels() if device == "cuda" else contextlib.nullcontext(),
        eight_bit_without_kernels(),
        _steps(tracker, runner),
        tracker.ledger.modules_known(),
        _old_objects_left_alone(),
        phases.counting,
    ):
        torch.manual_seed(0)  # where a stage draws what it computes, a plan is the same every time
        runner.fit(module, train_dataloaders=loader)
    return batches.steps


class _Batches(Dataset[Any]):
    """Batches of the size that is to be tried next; each is made when it is asked for."""

    def __init__(self, sample: Callable[[int], Any], next_size: NextSize, shapes: Shapes, *, each: int) -> None:
        self.steps: list[Step] = []
        self.each = each
        self.size = next_size([])
        self._sample, self._next, self._shapes = sample, next_size, shapes
        # Shared with the step that was reported: it is filled when the trainer is done with the step.
        self._operations: dict[Operation, float] = {}

    def __len__(self) -> int:
        return _MOST_STEPS * self.each

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401
        assert self.size is not None
        return self._shapes.batch(self._sample(self.size))

    def report(self, tracker: PeakTracker) -> None:
        """Note the step of the present size, and go on to the next."""
        assert self.size is not None
        counts = tracker.ledger.counts
        flops = sum(operation.traffic.flops * count for operation, count in counts.items()) // self.each
        self.steps.append(Step(self.size, tracker.peak_bytes, dict(tracker.at_peak), flops, self._operations))
        self.size = self._next(self.steps)

    def close(self, ledger: StepLedger) -> None:
        """Note the operations of the step that was reported last, and what the trainer did after it."""
        # The optimiser steps once, after all batches of a step.
        counts = ledger.counts.items()
        self._operations.update({one: n if one.work == "optimiser" else n / self.each for one, n in counts})
        self._operations = {}


class _ShapesStrategy(SingleDeviceStrategy):
    """Takes the place of moving the module to a card: its parameters become shapes, and counted."""

    def __init__(self, shapes: Shapes, tracker: PeakTracker) -> None:
        super().__init__(device=torch.device("cpu"))
        self._shapes, self._tracker = shapes, tracker

    def model_to_device(self) -> None:
        """Replace the weights and count them."""
        module = self.lightning_module
        assert module is not None
        self._shapes.module(module)
        self._tracker.add_weights([*module.parameters(), *module.buffers()])
        for parameter in module.parameters():
            if parameter.requires_grad:
                # A gradient appears as an activation of backward; only autograd's own hook tells that it stays.
                parameter.register_post_accumulate_grad_hook(self._count_gradient)  # type: ignore[no-untyped-call]

    def teardown(self) -> None:
        """Leave the module where it is: shapes cannot be moved."""

    def _count_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._tracker.add(parameter.grad, "gradients")


class _Phases(Callback):
    """Says what new tensors are for, and ends each step."""

    def __init__(self, tracker: PeakTracker, batches: _Batches) -> None:
        self._tracker, self._batches = tracker, batches
        self.counting = contextlib.ExitStack()
        """Ends the counting, also where a step fails."""
        self._skipped = self._reported = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let a module that can build its network without its weights do so, before ``configure_model`` would."""
        if isinstance(pl_module, StageModule):
            pl_module.configure_shapes()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count, from where a step has left the optimiser's states."""
        self.counting.enter_context(self._tracker)
        if not pl_module.automatic_optimization:
            return  # its first step, which is not reported, makes the states
        self._tracker.kind = "optimizer"
        for parameter in pl_module.parameters():
            if parameter.requires_grad:
                # A step without a batch makes the optimiser's states, as they are from the second step on.
                parameter.grad = torch.empty_like(parameter)
                self._tracker.add(parameter.grad, "gradients")
        for optimizer in trainer.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._tracker.start_over()
        self._tracker.ledger.start_over()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """What a forward and a backward make are activations, unless they turn out to be gradients."""
        self._close()
        for value in tree_leaves(batch):
            if isinstance(value, Tensor):
                self._tracker.add(value, "other")
        self._tracker.kind = "activations"

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """After this come clipping and the step."""
        if pl_module.automatic_optimization:
            self._tracker.kind = "optimizer"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Report the step."""
        if not (pl_module.automatic_optimization or self._skipped):
            self._skipped = True  # what gradients are left for the next step is known after one
            self._tracker.start_over()
            self._tracker.ledger.start_over()
        elif (batch_idx + 1) % self._batches.each == 0:
            self._batches.report(self._tracker)
            self._reported = True
            self._tracker.start_over()
            if self._batches.size is None:
                # Told that it should stop, it would log this step, and read what it logs.
                trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the operations of the last step."""
        self._close()

    def _close(self) -> None:
        """End the count of the step that was reported: the trainer reads and logs values after its callbacks."""
        if self._reported:
            self._batches.close(self._tracker.ledger)
            self._tracker.ledger.start_over()
            self._reported = False


@contextlib.contextmanager
def _steps(tracker: PeakTracker, trainer: Trainer) -> Iterator[None]:
    """Count what optimisers make that Lightning does not call with the whole step as their closure."""
    before: list[Kind] = []

    def begin(optimizer: Any, *_: object) -> None:  # noqa: ANN401
        before.append(tracker.kind)
        # Lightning calls the others with forward and backward as their closure, which is not the optimiser's work.
        if not (trainer.lightning_module.automatic_optimization and optimizer in trainer.optimizers):
            tracker.kind = "optimizer"

    def end(*_: object) -> None:
        tracker.kind = before.pop()

    hooks = register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Spare the collector the libraries' objects: with millions of operators it would look through them many times."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def itself(batch: Any) -> Any:  # noqa: ANN401
    """Collate a batch that is one already."""
    return batch
