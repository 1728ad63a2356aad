"""A whole training step, through the callbacks of ``fit``, reads nothing on the host unless it logs."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tests.gpt_sovits.gpt_sets import write_set as write_phonemes
from tests.gpt_sovits.sovits_rows import write_rows
from tests.host_reads import HostReads, Read
from tests.orpheus.test_data import write_set as write_tokens
from tts_train.cli import main
from tts_train.optim.streamed import optimizer as streamed
from tts_train.optim.streamed.optimizer import StreamedOptimizer
from tts_train.progress import is_terminal
from tts_train.training import run as train
from tts_train.training.survive import finite as guard
from tts_train.training.watch.progress import TrainingProgress
from tts_train_gpt_sovits.stages.gpt import optimizer

LOG_EVERY = 3
COMMON = [
    "--trainer.accelerator", "cpu", "--trainer.max_steps", "6", "--trainer.log_every_n_steps", str(LOG_EVERY),
    "--trainer.limit_val_batches", "0", "--listen.sentences", "0", "--checkpoint.monitor", "null",
]  # fmt: skip


class Watch(Callback):
    """Counts from the first batch to the last, and knows which of them log."""

    def __init__(self) -> None:
        self.reads = HostReads()
        self.batches = 0
        self.excused: set[int] = set()
        self._on = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reads.mark([*pl_module.parameters(), *pl_module.buffers()])
        for parameter in pl_module.parameters():
            quantised = getattr(parameter, "quant_state", None)  # bitsandbytes moves it with its weight
            while quantised is not None:
                self.reads.mark([vars(quantised)[name] for name in ("absmax", "code", "offset")])
                quantised = quantised.state2
        self.reads.__enter__()
        self._on = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        self.reads.step = self.batches
        self.reads.mark(batch)
        if trainer.global_step == 0 or trainer._logger_connector.should_update_logs:
            self.excused.add(self.batches)  # the first step makes tables and states
        self.batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reads.step = -1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    def waits(self) -> list[Read]:
        return [read for read in self.reads.reads if read.step >= 0 and read.step not in self.excused]

    def _leave(self) -> None:
        if self._on:
            self._on = False
            self.reads.__exit__(None, None, None)


def as_on_a_card(reads: HostReads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the guard take the way of a card, where a flag is not read at once.

    A streamed optimiser is a kernel there, which reads its flag itself. Here PyTorch steps in its place and ``is_set``
    reads the flag; only that is left out of the count.
    """
    can = guard._skips_on_device
    monkeypatch.setattr(guard, "at_once", lambda flag: False)
    monkeypatch.setattr(guard, "_skips_on_device", lambda one: isinstance(one, StreamedOptimizer) or can(one))

    def kernel_reads(flag: Tensor) -> bool:
        with reads.uncounted():
            return bool(flag)

    monkeypatch.setattr(streamed, "is_set", kernel_reads)
    monkeypatch.setattr(optimizer, "runs_on", lambda device: "cuda")


def watched(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch, make = Watch(), train._trainer

    def with_watch(parser, chosen, run, callbacks, **options):
        return make(parser, chosen, run, [watch, *callbacks], **options)

    monkeypatch.setattr(train, "_trainer", with_watch)
    as_on_a_card(watch.reads, monkeypatch)
    if not is_terminal():
        monkeypatch.setattr(train, "TrainingProgress", lambda: TrainingProgress(every_s=0.0))
    assert main(["fit", *COMMON, *words, "--run_dir", str(folder / "run")]) == 0
    assert watch.batches - len(watch.excused) >= 3
    return watch


def is_read(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, *, files: Collection[str] = frozenset()
) -> None:
    """Check that the host waits in these files and in no others."""
    waits = watched(words, folder, monkeypatch).waits()
    sites = {f"{read.what} at {read.site}": read for read in waits}
    told = f"{len(waits)} waits at {len(sites)} places:\n" + "\n".join(map(str, sites.values()))
    assert {read.site.rpartition(":")[0] for read in waits} == set(files), told


ADAFACTOR = {"lightning/pytorch/plugins/precision/precision.py", "tts_train/optim/kernels/flags.py"}
"""Where Adafactor waits: torch's, called by Lightning, reads two norms of every parameter, and as it cannot skip a step
on the device, the host reads whether to call it."""

ORPHEUS = {
    "full": "",
    "full adamw8bit": "--model.optimizer.name adamw8bit",
    "full adafactor": "--model.optimizer.name adafactor",
    "full lion8bit in backward": "--model.optimizer.name lion8bit --model.optimizer.in_backward true "
    "--trainer.gradient_clip_val null --trainer.precision bf16-true --model.optimizer.rounding stochastic",
    "full offload": "--model.optimizer.offload true --trainer.gradient_clip_val null",
    "full recomputed": "--model.gradient_checkpointing true --model.head.chunk_tokens 64 "
    "--trainer.precision bf16-mixed",
    "lora": "--model.method lora --trainer.precision bf16-mixed",
    "qlora": "--model.method qlora --trainer.precision bf16-true",
    "slot, padded": "--model.head.softmax slot --data.batching padded --data.batch_size 4",
}


@pytest.mark.parametrize("case", ORPHEUS)
@pytest.mark.slow
def test_orpheus(case, tmp_path, monkeypatch):
    data = write_tokens(tmp_path / "set", [3 + n % 8 for n in range(24)])
    words = ["--backend", "orpheus", "--model.init_from", "tiny", "--data.path", data, "--data.max_tokens", "256"]
    is_read([*words, *ORPHEUS[case].split()], tmp_path, monkeypatch, files=ADAFACTOR if "adafactor" in case else set())


TEXT = {
    "gpt": "--stage gpt",
    "gpt lora": "--stage gpt --model.method lora",
    "gpt adamw8bit": "--stage gpt --model.optimizer_kind standard --model.optimizer.name adamw8bit",
    "gpt adafactor": "--stage gpt --model.optimizer_kind standard --model.optimizer.name adafactor",
    "dpo": "--stage dpo",
}


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[] if name == "gpt" else [pytest.mark.slow]) for name in TEXT]
)
def test_text_stages(case, tmp_path, monkeypatch):
    data = ["--data.path", write_phonemes(tmp_path / "gpt.parquet", 24), "--data.max_tokens", "300"]
    words = ["--backend", "gpt_sovits", *TEXT[case].split(), *data, "--trainer.accumulate_grad_batches", "2"]
    is_read(words, tmp_path, monkeypatch, files=ADAFACTOR if "adafactor" in case else set())


SOUND = {
    "sovits v2": "--stage sovits --model.version v2 --trainer.max_steps 12",  # two optimisers step in a batch
    "cfm v3": "--stage cfm --model.version v3",
}


@pytest.mark.parametrize("case", SOUND)
@pytest.mark.slow
def test_sound_stages(case, tmp_path, monkeypatch):
    data = ["--data.path", write_rows(tmp_path / "rows", count=5), "--data.batch_size", "2"]
    is_read(["--backend", "gpt_sovits", *SOUND[case].split(), *data], tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_drawn_bar_reads_nothing(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    assert is_terminal()
    test_orpheus("full", tmp_path, monkeypatch)


def counted(work) -> list[str]:
    """Run ``work`` on a marked tensor and return what was counted."""
    reads, tensor = HostReads(), torch.arange(4.0)
    with reads:
        reads.mark(tensor)
        work(tensor)
    return [read.what for read in reads.reads]


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.sum().item(),
        lambda t: bool((t > 1).any()),
        lambda t: (t * 2).tolist(),
        lambda t: t.cpu(),
        lambda t: (t + 1).to("cpu"),
        lambda t: t.detach().numpy(),
        lambda t: t.nonzero(),
        lambda t: t[t > 1],
        lambda t: t.unique(),
        lambda t: torch.where(t > 1),
        lambda t: t.masked_select(t > 1),
        lambda t: torch.ones(4).repeat_interleave(t.long()),
        lambda t: f"{t.sum():.2f}",
        lambda t: t.new_tensor([1.0]),
        lambda t: torch.tensor(1.0, device=t.device),
        lambda t: torch.equal(t, t + 1),
        lambda t: torch.ones(4).to(t.device),
        lambda t: torch.ones(4).to(t.device, non_blocking=True).sum().item(),
        lambda t: t.copy_(torch.ones(4)),
        lambda t: torch.empty(4).copy_(t, non_blocking=True).tolist(),
    ],
)
def test_what_waits_is_counted(read):
    assert len(counted(read)) == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda t: torch.ones(3).sum().item(),
        lambda t: t.where(t > 1, 0),
        lambda t: t.masked_fill_(t > 1, 0.0),
        lambda t: t.to(torch.bfloat16).to(t.device),
        lambda t: torch.ones(4).repeat_interleave(t.long(), output_size=6),
        lambda t: t.index_select(0, torch.tensor([1, 2]).to(t.device, non_blocking=True)),
        lambda t: t.copy_(torch.ones(4), non_blocking=True),
        lambda t: t.new_zeros(3) + 1.0,
        lambda t: t[1:3],
    ],
)
def test_what_does_not_wait_is_not(read):
    assert counted(read) == []


def test_a_copy_without_blocking_may_be_read_a_batch_later():
    reads, tensor = HostReads(), torch.arange(4.0)
    with reads:
        reads.mark(tensor)
        reads.step = 1
        copy = torch.empty(4)
        copy.copy_(tensor, non_blocking=True)
        same: Tensor = tensor.to("cpu", non_blocking=True)
        reads.step = 2
        assert copy.tolist() == same.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert reads.reads == []


def test_a_site_is_named():
    reads = HostReads()
    with reads:
        weight = torch.ones(2)
        reads.mark(weight)
        float(weight.sum())
    assert reads.reads[0].site.rpartition(":")[0].endswith("tests/test_host_reads.py")
