"""What ``auto`` chooses for a card, and that trying leaves nothing behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from tests.orpheus.test_plan import build
from tts_train.cli import before
from tts_train.optim import OptimizerOptions
from tts_train.optim.streamed import StreamedOptimizer
from tts_train.plan import probe
from tts_train.plan.cards import GIB
from tts_train.plan.planner import CONTEXT_BYTES
from tts_train_orpheus.data import OrpheusData

CPU = {"accelerator": "cpu"}


class Taken:
    """Weak references to what a probe made: weights, and states as soon as they are there."""

    def __init__(self, monkeypatch):
        self.references: list[weakref.ref] = []
        self._step = StreamedOptimizer.step
        taken = self

        def step(optimizer, closure=None):
            result = taken._step(optimizer, closure)
            for parameter, slot in optimizer.state.items():
                tensors = (parameter, *slot.states.values())
                taken.references += [weakref.ref(tensor.untyped_storage()) for tensor in tensors] + [weakref.ref(slot)]
            return result

        monkeypatch.setattr(StreamedOptimizer, "step", step)

    @property
    def alive(self) -> int:
        return sum(reference() is not None for reference in self.references)


@pytest.mark.parametrize("fails", [False, True], ids=["fits", "out of memory"])
def test_a_probe_leaves_nothing_behind(monkeypatch, fails):
    taken = Taken(monkeypatch)
    module = build({"optimizer": OptimizerOptions("adamw8bit")})
    if fails:
        steps = []

        def out_of_memory(batch, batch_idx):
            steps.append(batch_idx)
            if len(steps) == 2:
                raise torch.OutOfMemoryError("no room")
            return type(module).training_step(module, batch, batch_idx)

        module.training_step = out_of_memory
    monkeypatch.setattr(probe.gc, "collect", lambda: None)
    gc.disable()  # what only the cyclic collector would find would stay on a card for a while
    try:
        fitted = probe.takes_a_step(module, OrpheusData("nowhere", max_tokens=64), CPU, 64)
    finally:
        gc.enable()
    assert fitted is not fails
    assert len(taken.references) > 20
    assert taken.alive == 0


def test_a_card_is_what_others_leave_of_it(monkeypatch, caplog):
    def card(free: float, reserved: float) -> int | None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * GIB), 24 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(reserved * GIB))
        with caplog.at_level("INFO", "tts_train"):
            return before.card_of({"accelerator": "gpu", "devices": 1})

    assert card(24 - CONTEXT_BYTES / GIB, 0) == 24 * GIB
    assert card(23.5, 0) == 24 * GIB, "never more than there is"
    assert not caplog.messages
    assert card(20.0, 1.0) == pytest.approx(21 * GIB + CONTEXT_BYTES)
    told = "Other programs use 2.4 of the card's 24.0 GiB; the plan counts on the 21.6 GiB that are left."
    assert caplog.messages == [told]
    assert before.card_of({"accelerator": "cpu"}) is None
