"""The parts of a plan: what is counted and as what, how the largest batch is found, how processes divide memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn.functional import linear
from torch.utils.data import DataLoader
from tts_train_toy.module import ToyModule

from tests.core.memory.allocated import Allocated
from tts_train.cli import main
from tts_train.configuration.select import select
from tts_train.errors import ConfigError
from tts_train.memory.cards import CARDS, GIB, Card, memory_of
from tts_train.memory.planner import Division, Plan
from tts_train.memory.search import LargestBatch
from tts_train.memory.step.shapes import QuantisedShape, Shapes
from tts_train.memory.step.step import Step, run_steps
from tts_train.memory.step.tracker import KINDS, PeakTracker
from tts_train.nn.devices import planned_device, planning_for
from tts_train.run.directory import RunDirectory
from tts_train.sharding.options import FsdpOptions
from tts_train.training.parser import TrainingParser
from tts_train.training.planning import check_fits

MIB = 2**20


class Two(LightningModule):
    """Two optimisers stepped by hand, lengths that are read, and a value that is."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.seen: list[list[int]] = []
        self.known = True

    def training_step(self, batch, batch_idx):
        for optimizer, layer in zip(self.optimizers(), (self.one, self.two), strict=True):
            loss = layer(batch["states"][: batch["lengths"].max()]).square().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.seen.append(batch["lengths"].tolist())
        assert not self.known or loss.item() == 1.0, "a value that a plan cannot have is taken as 1"
        self.log("train/loss", loss)

    def configure_optimizers(self):
        return [torch.optim.AdamW(layer.parameters()) for layer in (self.one, self.two)]


def batch(rows: int) -> dict[str, torch.Tensor]:
    return {"states": torch.zeros(rows, 512), "lengths": torch.tensor([rows, 3])}


def test_a_stage_with_two_optimisers_of_its_own_loop():
    module = Two()
    steps = run_steps(module, batch, lambda done: (8, 4096, None)[len(done)], {"precision": "32-true"})
    weights = 2 * 512 * 512 * 4
    small, large = steps
    assert small.breakdown["weights"] == weights
    assert small.breakdown["gradients"] in (weights // 2, weights)
    assert small.breakdown["optimizer"] >= 2 * weights
    assert module.seen == [[8, 3], [8, 3], [4096, 3]], "integers have their values, and the first step does not count"
    # Forward, and backward of the weight's product only: the input needs no gradient.
    assert small.batch_flops == 2 * 2 * 2 * 8 * 512 * 512
    heard = Allocated(2)
    loader = DataLoader([batch(4096)] * 4, batch_size=None, collate_fn=lambda one: one)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    run = Trainer(accelerator="cpu", max_epochs=1, callbacks=[heard], enable_model_summary=False, **quiet)
    real = Two()
    real.known = False
    run.fit(real, train_dataloaders=loader)
    assert large.peak_bytes == pytest.approx(heard.peak_bytes + batch(4096)["states"].nbytes, rel=0.05)


def test_what_a_tensor_is_for():
    shapes = Shapes()
    with planning_for("cuda"):
        tracker = PeakTracker(shapes, vocabulary=1000)
        layer = nn.Linear(64, 1000, bias=False)
        shapes.module(layer)
        tracker.add_weights(layer.parameters())
        with tracker:
            tracker.kind = "activations"
            states = shapes.fake(torch.empty(16, 64))
            made = linear(states, layer.weight)
            flat = made.new_empty(3000)
            gradient = torch.zeros_like(layer.weight)
            mask = torch.ones(600, 600, dtype=torch.bool)
        assert mask.sum() == 360_000, "a mask is real"
    sizes = {kind: tracker.at_peak[kind] for kind in KINDS}
    assert sizes["weights"] == sizes["gradients"] == 64 * 1000 * 4
    assert sizes["logits"] == 16 * 1000 * 4 + 512 * (-(-3000 * 4 // 512))
    del made, flat, gradient
    tracker.start_over()
    assert tracker.at_peak["logits"] == tracker.at_peak["gradients"] == 0
    assert planned_device() is None


@pytest.mark.parametrize(("bits", "each"), [(4, 0.5 + 1 / 64 + 4 / 64 / 256), (8, 1 + 4 / 1024)])
def test_quantised_layers_have_the_bytes_of_real_ones(bits, each):
    layer = QuantisedShape(nn.Linear(1024, 2048, bias=False, device="meta"), bits)
    kept = sum(t.numel() * t.element_size() for t in [*layer.parameters(), *layer.buffers()])
    assert kept == pytest.approx(1024 * 2048 * each, rel=1e-3)


def test_four_bits_are_those_of_bitsandbytes():
    bnb = pytest.importorskip("bitsandbytes")
    weight = bnb.nn.Params4bit(torch.randn(256, 512), requires_grad=False, compress_statistics=True, quant_type="nf4")
    real = weight.to("cpu")
    state = real.quant_state
    kept = real.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    shape = QuantisedShape(nn.Linear(512, 256, bias=False, device="meta"), 4)
    assert sum(t.numel() * t.element_size() for t in [*shape.parameters(), *shape.buffers()]) == kept


def step(size: int, peak: int) -> Step:
    return Step(size, peak, dict.fromkeys(KINDS, 0), 0)


@pytest.mark.parametrize("room", [5000, 20_000, 150_000, 10**9])
@pytest.mark.parametrize("bend", [0, 30_000])
def test_the_largest_batch_is_tried_and_near_the_edge(room, bend):
    def peak(size: int) -> int:
        return 4000 + max(size // 4, 3 * (size - bend))

    seeker, steps = LargestBatch(2048, room, lambda one: one.peak_bytes), []
    while (size := seeker(steps)) is not None:
        steps.append(step(size, peak(size)))
    found = seeker.largest(steps)
    best = next(size for size in range(1 << 20, 0, -1) if peak(size) <= room)
    assert peak(found) <= room
    assert found >= 0.93 * best - 64
    assert len(steps) <= 7


def test_nothing_fits():
    seeker = LargestBatch(64, 10, lambda one: one.peak_bytes)
    steps: list[Step] = []
    while (size := seeker(steps)) is not None:
        steps.append(step(size, 1000 + size))
    assert seeker.largest(steps) == 0


def test_processes_share_what_fsdp_divides():
    module = nn.Sequential(
        nn.Linear(1000, 1000, bias=False), *(nn.Bilinear(100, 100, 100, bias=False) for _ in range(4))
    )
    whole = 4 * sum(parameter.numel() for parameter in module.parameters())
    sizes = {**dict.fromkeys(KINDS, 0), "weights": whole, "gradients": whole, "activations": 800}
    one = Step(1, 2 * whole + 800, sizes, 0)
    blocks = ("Bilinear",)
    shared = Division(4, FsdpOptions(), blocks)
    assert shared.share == 1 / 4
    assert shared.of(one, module).breakdown["other"] == 4 * 3_000_000, "the rest, and a block in use and one ahead"
    assert Division(4, FsdpOptions(shard="gradients"), blocks).of(one, module).breakdown["other"] == whole
    assert Division(4, FsdpOptions(replicas=2), blocks).share == 1 / 2
    assert Division(4, FsdpOptions(cpu_offload=True), blocks).share == 0
    assert Division(4).of(one, module).peak_bytes == one.peak_bytes + whole, "a bucket for every gradient"
    assert Division().of(one, module) == one


def test_a_share_finds_the_moment_that_is_the_peak_of_one_process():
    alone, shared = (
        run_steps(Two(), batch, lambda done: None if done else 4096, {"precision": "32-true"}, share=share)[0]
        for share in (1.0, 0.25)
    )
    assert shared.breakdown["weights"] == alone.breakdown["weights"] // 4
    assert shared.breakdown["activations"] >= alone.breakdown["activations"] > 0


def test_fit_refuses_what_cannot_fit_unless_told_to_try(tmp_path, caplog):
    words = ["--backend", "toy"]
    selection = select(words)
    chosen = selection.load()
    run = RunDirectory(tmp_path / "run")
    with caplog.at_level("INFO", "tts_train"):
        check_fits(TrainingParser("fit", chosen, selection.rest), chosen, run, card_bytes=2 * GIB)
        check_fits(TrainingParser("fit", chosen, ["--plan", "try"]), chosen, run, card_bytes=GIB // 4)
        check_fits(TrainingParser("fit", chosen, selection.rest), chosen, run, card_bytes=None)
    said = [record.getMessage() for record in caplog.records if "Plan:" in record.getMessage()]
    assert [one.split(": ")[-1] for one in said] == ["fits 2.0 GiB.", "does not fit 0.2 GiB."]
    with pytest.raises(ConfigError, match=r"--data.batch_size than 2.*--plan try"):
        check_fits(TrainingParser("fit", chosen, selection.rest), chosen, run, card_bytes=GIB // 4)


def test_cards_by_memory_and_name():
    assert memory_of("24GiB") == memory_of("24 GB") == memory_of("24") == 24 * GIB
    assert memory_of("rtx4090") == memory_of("RTX 4090") < 24 * GIB
    assert memory_of("512MiB") == GIB // 2
    for wrong in ("many", "-1GiB", "0"):
        with pytest.raises(ConfigError, match="RTX 3090"):
            memory_of(wrong)
    assert len({card.name for card in CARDS}) == len(CARDS)


def test_command_plans_another_backend(capsys):
    assert main(["plan", "--backend", "toy", "--gpu", "1380MiB", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["fits"]
    assert report["largest"] == {"data.batch_size": report["max_tokens_per_batch"] // 16}
    assert report["batches_per_epoch"] == 2
    low, high = report["cards"]["RTX 4090"]["epoch_hours"]
    assert low <= high
    assert main(["plan", "--backend", "toy", "--gpu", "0.1GiB"]) == 2
    assert "does not fit 0.1 GiB" in capsys.readouterr().out


@pytest.fixture
def handlers_kept():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_ctrl_c_in_a_planned_step_is_an_interruption(handlers_kept, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyModule, "training_step", interrupted)
    assert main(["plan", "--backend", "toy"]) == 75
    assert capsys.readouterr().err.splitlines()[-1] == "tts-train: interrupted"


TOLD_TO_END = """
import os, signal, sys, time
from tts_train_toy.module import ToyModule
from tts_train.cli import main

def told_to_end(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

ToyModule.training_step = told_to_end
sys.exit(main(["plan", "--backend", "toy"]))
"""


@pytest.mark.slow
def test_sigterm_ends_a_plan_at_once():
    done = subprocess.run([sys.executable, "-c", TOLD_TO_END], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_a_card_that_needs_more_layers_recomputed_is_not_called_too_small():
    step = Step(size=1, peak_bytes=8 * GIB, breakdown=dict.fromkeys(KINDS, 0), batch_flops=0)
    said = dict.fromkeys(("gpu_bytes", "largest", "largest_tokens", "batches"))
    counts = dict.fromkeys(("listening_bytes", "parameters", "trained", "accumulate", "ranks", "tokens"), 0)
    plan = Plan(option="data.max_tokens", step=step, recomputed=0.0, least_bytes=GIB, **said, **counts)
    assert plan.needed_bytes > 8 * GIB
    cards = [Card(f"a card of {size}", size, 1.0, 1.0, 1.0) for size in (9 * GIB, GIB, GIB - 1)]
    assert [plan.fits_on(card) for card in cards] == [True, True, False]


def test_help_needs_no_torch():
    script = "import sys, tts_train.cli as c; sys.exit(c.main(['plan', '--help']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--gpu" in done.stdout
