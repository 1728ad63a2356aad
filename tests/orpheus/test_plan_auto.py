"""What ``auto`` chooses for a card, and that trying leaves nothing behind."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch

from tests.orpheus.test_plan import build
from tts_train.configuration.select import select
from tts_train.memory import probe
from tts_train.memory.cards import GIB
from tts_train.memory.planner import make_plan, needed, speaking
from tts_train.memory.search import LargestBatch, LeastRecomputed
from tts_train.memory.step.step import Step
from tts_train.memory.step.tracker import KINDS
from tts_train.optim import OptimizerOptions
from tts_train.optim.streamed.optimizer import StreamedOptimizer
from tts_train.recipes import recipes_folder
from tts_train.run.directory import RunDirectory
from tts_train.training import planning
from tts_train.training.parser import TrainingParser
from tts_train_orpheus.stage import OrpheusData

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
            return planning.card_of({"accelerator": "gpu", "devices": 1})

    assert card(24 - planning.OWN_CONTEXT_BYTES / GIB, 0) == 24 * GIB
    assert card(23.9, 0) == 24 * GIB, "never more than there is"
    assert not caplog.messages
    assert card(20.0, 1.0) == pytest.approx(21 * GIB + planning.OWN_CONTEXT_BYTES)
    told = "Other programs use 2.5 of the card's 24.0 GiB; the plan counts on the 21.5 GiB that are left."
    assert caplog.messages == [told]
    assert planning.card_of({"accelerator": "cpu"}) is None


class Recomputing:
    """Needs 10,000 and 100 a layer that is kept, of 30 layers, and 5 more a layer in the middle of its range."""

    recompute_auto = True
    share = None

    def recompute(self, share: float) -> None:
        self.share = share

    def step(self, size: int, bend: int = 0) -> Step:
        kept = 30 - math.ceil(30 * self.share)
        peak = 10_000 * size // 8 + 100 * kept + (bend if 0 < kept < 30 else 0)
        return Step(size, peak, dict.fromkeys(KINDS, 0), 0)


@pytest.mark.parametrize(
    ("room", "bend", "share", "tries"),
    [
        (9_000, 0, 1.0, 1),
        (None, 0, 1.0, 1),
        (20_000, 0, 0.0, 2),
        (11_000, 0, 0.7, 3),
        (11_000, 150, 0.75, 4),
        (11_000, 2_000, 1.0, 4),
    ],
    ids=["nothing fits", "no card", "all fits", "in between", "the line lies below", "only all recomputed"],
)
def test_the_least_that_is_recomputed_was_tried(room, bend, share, tries):
    module = Recomputing()
    seeker = LeastRecomputed(module, LargestBatch(8, None, lambda step: step.peak_bytes), room, lambda s: s.peak_bytes)
    steps: list[Step] = []
    while (size := seeker(steps)) is not None:
        steps.append(module.step(size, bend))
    chosen, step = seeker.chosen(steps)
    assert (chosen, len(steps)) == (share, tries)
    assert step.peak_bytes <= (room or step.peak_bytes) or chosen == 1.0


def test_the_largest_batch_is_that_with_all_layers_recomputed():
    module, room = Recomputing(), 20_000
    largest = LargestBatch(8, room, lambda step: step.peak_bytes)
    seeker = LeastRecomputed(module, largest, room, lambda step: step.peak_bytes)
    steps: list[Step] = []
    while (size := seeker(steps)) is not None:
        steps.append(module.step(size))
    assert seeker.chosen(steps)[0] == 0.0
    assert largest.largest(seeker.full(steps)) == 16


def told(words, run) -> tuple[list[str], object]:
    selection = select(["-c", str(recipes_folder() / "orpheus" / "lm-tiny.yaml"), *words])
    chosen = selection.load()
    parser = TrainingParser("fit", chosen, selection.rest)
    found, plan = planning.resolve_share("fit", parser, chosen, [], run)
    return list(found), plan


@pytest.mark.slow
def test_a_run_recomputes_as_little_as_its_card_has_room_for_and_keeps_that(tmp_path, monkeypatch):
    words = ["--model.gradient_checkpointing", "true", "--model.checkpoint_share", "auto", "--model.tiny.layers", "12"]
    words += ["--listen.sentences", "0"]  # speaking takes more memory than training a network as small as this
    run = RunDirectory(tmp_path / "run")
    assert told(words, run) == ([], None), "without a card all is recomputed"
    monkeypatch.setattr(planning, "card_of", lambda trainer: 80 * GIB)
    found, plan = told(words, run)
    assert found == ["--model.gradient_checkpointing", "false", "--model.checkpoint_share", "1.0"]
    assert plan.recomputed == 0.0
    between = (plan.needed_bytes + plan.least_bytes) // 2
    assert plan.least_bytes < between
    monkeypatch.setattr(planning, "card_of", lambda trainer: between)
    found, plan = told(words, run)
    assert found == ["--model.gradient_checkpointing", "true", "--model.checkpoint_share", str(plan.recomputed)]
    assert 0 < plan.recomputed < 1
    assert plan.least_bytes < plan.needed_bytes <= between
    assert told([*words, "--plan", "off"], run) == ([], None)
    run.create()
    for on, share in (("true", "0.4"), ("false", "1.0")):
        run.config.write_text(f"model:\n  gradient_checkpointing: {on}\n  checkpoint_share: {share}\n")
        kept = ["--model.gradient_checkpointing", on, "--model.checkpoint_share", share]
        assert told(words, run) == (kept, None), "a run that has begun keeps its share"
    assert told(["--model.gradient_checkpointing", "true"], run) == ([], None), "only auto asks the card"


def test_auto_recomputes_all_where_nothing_was_planned():
    module = build({"gradient_checkpointing": True, "checkpoint_share": "auto"})
    assert (module.recompute_auto, module.checkpoint_share) == (True, 1.0)
    assert not build({"checkpoint_share": "auto"}).recompute_auto, "nothing is recomputed anyway"


def test_what_is_spoken_to_be_heard_must_fit_too():
    def plan(listened: int, generation: int):
        module = build({})
        module.voice_bytes = lambda passages: passages * generation
        return make_plan(
            module, OrpheusData("nowhere", max_tokens=64), {}, gpu_bytes=2 * GIB, search=False, listened=listened
        )

    silent, little, much = plan(0, GIB), plan(2, 1), plan(2, GIB)
    assert silent.needed_bytes == little.needed_bytes == needed(silent.step)
    assert (silent.fits, much.fits) == (True, False)
    lasting = much.step.breakdown["weights"] + much.step.breakdown["optimizer"]
    assert much.needed_bytes == much.least_bytes == speaking(much.step, 2 * GIB)
    assert lasting + 2 * GIB < much.needed_bytes < lasting + 4 * GIB
    assert much.report()["listening_bytes"] == 2 * GIB
