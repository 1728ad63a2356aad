"""What a training step allocates on the CPU, heard from the allocator through the profiler: independent of any plan."""

from __future__ import annotations

import lightning
import torch
from torch.profiler import ProfilerActivity, profile


class Allocated(lightning.Callback):
    """Listens to every allocation of each step from the second on, by way of the profiler, and keeps the highest peak.

    Several steps, since a busy machine's profiler now and then misses an event, and a missed one lowers the sum.
    """

    def __init__(self, batches_a_step: int) -> None:
        self.each = batches_a_step
        self.peak_bytes = 0
        self.profile: profile | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx >= self.each and batch_idx % self.each == 0:
            self._read()
            self.before = resident(pl_module, trainer.optimizers)
            self.profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self.profile.start()

    def on_train_end(self, trainer, pl_module):
        self._read()

    def _read(self) -> None:
        if self.profile is None:
            return
        self.profile.stop()
        self.peak_bytes = max(self.peak_bytes, self.before + highest(self.profile))
        self.profile = None


def highest(done: profile) -> int:
    """Return the most bytes that were allocated at once since a profile began."""
    now = most = 0
    events = [event for event in done.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def resident(module: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    tensors += [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    tensors += [value for one in optimizers for state in one.state.values() for value in state.values()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if hasattr(t, "grad")}
    return sum(storages.values())
