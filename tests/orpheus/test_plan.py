"""The plan of small runs against what the same runs allocate: the CPU's allocator as the profiler hears it, a GPU's."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from tests.core.memory.allocated import Allocated
from tests.orpheus.family import sample_documents
from tts_train.cli import main
from tts_train.configuration.select import select
from tts_train.families.token_lm.network.adapters import LoraOptions
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.memory.step.gradients import DropGradients
from tts_train.memory.step.step import run_steps
from tts_train.memory.step.tracker import KINDS
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.recipes import recipes_folder
from tts_train.run.directory import RunDirectory
from tts_train.training.parser import TrainingParser
from tts_train.training.planning import resolve_auto
from tts_train_orpheus.stage import OrpheusData, OrpheusModule

SMALL = TinyOptions(hidden=64, layers=6, heads=4, kv_heads=2, mlp=1024)
NARROW = TinyOptions(hidden=32, layers=6, heads=2, kv_heads=1, mlp=1024)
"""For bfloat16, whose plain products take a CPU ten times as long."""
WITHIN = 0.05
STEPS = 3
WITHIN_ON_A_GPU = 0.08

Run = tuple[dict[str, Any], dict[str, Any], int]
RUNS: dict[str, Run] = {
    "full": ({}, {}, 192),
    "full, longer": ({}, {}, 640),
    "clipped and accumulated": ({}, {"accumulate_grad_batches": 3, "gradient_clip_val": 1.0}, 192),
    "checkpointed": ({"gradient_checkpointing": True}, {}, 640),
    "lora": ({"method": "lora"}, {}, 192),
    "lora, longer, checkpointed": ({"method": "lora", "gradient_checkpointing": True}, {}, 640),
    "lora in bfloat16": ({"method": "lora", "tiny": NARROW}, {"precision": "bf16-mixed"}, 192),
}
QUICK = ("full",)
"""The others are for the slow tier."""
RUNS_ON_A_GPU: dict[str, Run] = {
    **RUNS,
    "full in bfloat16": ({"gradient_checkpointing": True}, {"precision": "bf16-true"}, 8192),
    "8-bit states": ({"optimizer": OptimizerOptions("adamw8bit")}, {"precision": "bf16-true"}, 4096),
    "stepped in backward": ({"optimizer": OptimizerOptions("adamw8bit", in_backward=True)}, {}, 4096),
    "qlora": ({"method": "qlora"}, {"precision": "bf16-mixed"}, 8192),
}


def build(changes: dict[str, Any]) -> OrpheusModule:
    options = {
        "lora": LoraOptions(rank=16),
        "schedule": ScheduleOptions("constant"),
        "head": HeadOptions(chunk_tokens=32),
        "tiny": SMALL,
    }
    return OrpheusModule("tiny", **(options | changes))


def planned(changes: dict[str, Any], trainer: dict[str, Any], tokens: int, *, device: str) -> int:
    data = OrpheusData("nowhere", max_tokens=tokens)
    steps = run_steps(build(changes), data.sample_batch, lambda done: None if done else tokens, trainer, device=device)
    return steps[0].peak_bytes


class States(lightning.Callback):
    def on_train_end(self, trainer, pl_module):
        tables = [getattr(state, "states", state) for state in trainer.optimizers[0].state.values()]
        kept = [value for table in tables for value in table.values()]
        storages = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in kept if hasattr(v, "grad")}
        self.bytes = sum(storages.values())


def trained(changes, trainer, tokens, tmp_path, *, accelerator, callbacks=()):
    each = trainer.get("accumulate_grad_batches", 1)
    batch = OrpheusData("nowhere", max_tokens=tokens).collate(sample_documents(tokens))
    run = lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=STEPS,
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[DropGradients(), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1000,
        **trainer,
    )
    loader = DataLoader([batch] * (STEPS * each), batch_size=None, collate_fn=lambda one: one)
    run.fit(build(changes), train_dataloaders=loader)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUNS]
)
def test_plan_is_what_a_cpu_allocates(name, tmp_path):
    changes, trainer, tokens = RUNS[name]
    heard = Allocated(trainer.get("accumulate_grad_batches", 1))
    # oneDNN takes scratch memory for bfloat16 products on CPUs without such instructions; torch's own products do not.
    with torch.backends.mkldnn.flags(enabled=False):
        trained(changes, trainer, tokens, tmp_path, accelerator="cpu", callbacks=[heard])
    expected = planned(changes, trainer, tokens, device="cpu")
    print(f"{name}: planned {expected / 2**20:.1f} MiB, allocated {heard.peak_bytes / 2**20:.1f} MiB")
    assert expected == pytest.approx(heard.peak_bytes, rel=WITHIN)


def test_eight_bit_states_are_made_though_their_kernel_is_not_run(tmp_path):
    # The kernel for the CPU is no kernel but many operators, and its peak another: only what stays is compared.
    changes = {"optimizer": OptimizerOptions("adamw8bit")}
    states = States()
    trained(changes, {}, 64, tmp_path, accelerator="cpu", callbacks=[states])
    steps = run_steps(
        build(changes), OrpheusData("nowhere").sample_batch, lambda d: None if d else 64, {}, device="cpu"
    )
    assert steps[0].breakdown["optimizer"] == pytest.approx(states.bytes, rel=0.01)


@pytest.mark.slow
def test_released_model_fits_the_card_its_recipe_is_for():
    words = ["plan", "-c", str(recipes_folder() / "orpheus" / "lm-full-40gb.yaml"), "--data.max_tokens", "2048"]
    words += ["--model.checkpoint_share", "1.0"]
    # A process of its own, whose memory is no other test's.
    used = "from tests.peak import peak_kibibytes; print(peak_kibibytes())"
    program = f"from tts_train.cli import main; assert main({[*words, '--gpu', '39.4GiB', '--json']!r}) == 0; {used}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *_, line, kibibytes = done.stdout.splitlines()
    report = json.loads(line)
    assert report["parameters"] == report["trained_parameters"] == 3_300_867_072
    assert report["fits"]
    assert report["breakdown"].keys() == set(KINDS)
    assert sum(report["breakdown"].values()) == report["peak_bytes"]
    # Weights and gradients of 2 bytes and states of 4 are 8 bytes a parameter; no allocation is below that.
    assert report["peak_bytes"] > 8 * 3_300_867_072
    assert report["max_tokens_per_batch"] > 2048
    # Six operations a parameter and token, two more for what is recomputed, of everything but the head.
    assert report["step_flops"] == pytest.approx(8 * 3_300_867_072 * 2048, rel=0.15)
    assert int(kibibytes) * 1024 < 4 * 2**30, "the weights alone would take 6.1 GiB"


def test_auto_needs_a_card_and_a_run_keeps_its_number(tmp_path, capsys):
    words = ["-c", str(recipes_folder() / "orpheus" / "lm-tiny.yaml"), "--data.max_tokens", "auto"]
    assert main(["fit", *words, "--run_dir", str(tmp_path / "new")]) == 2
    assert "tts-train plan" in capsys.readouterr().err
    selection = select(words)
    chosen = selection.load()
    run = RunDirectory(tmp_path / "begun")
    run.create()
    run.config.write_text("data:\n  max_tokens: 640\n")
    parser = TrainingParser("fit", chosen, selection.rest)
    assert resolve_auto("fit", parser, chosen, selection.rest, run)[-2:] == ["--data.max_tokens", "640"]


class Workspaces(lightning.Callback):
    """The bytes of cuBLAS's workspaces, which torch counts as tensors and a plan with what CUDA takes.

    On Hopper they are 32 MiB for each thread that multiplies, more than a quarter of these small runs. Lightning frees
    them when a run is over, so they are told before.
    """

    def on_train_end(self, trainer, pl_module):
        before = torch.cuda.memory_allocated()
        torch._C._cuda_clearCublasWorkspaces()
        self.bytes = before - torch.cuda.memory_allocated()


@pytest.mark.gpu
@pytest.mark.parametrize("name", RUNS_ON_A_GPU)
def test_plan_is_what_a_gpu_allocates(name, tmp_path):
    changes, trainer, tokens = RUNS_ON_A_GPU[name]
    trained(changes, trainer, tokens, tmp_path, accelerator="gpu")  # kernels are compiled and tried
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    libraries = Workspaces()
    trained(changes, trainer, tokens, tmp_path, accelerator="gpu", callbacks=[libraries])
    assert libraries.bytes, "they are taken with the first product"
    measured = torch.cuda.max_memory_allocated() - libraries.bytes
    expected = planned(changes, trainer, tokens, device="cuda")
    told = f"planned {expected / 2**20:.1f} MiB, allocated {measured / 2**20:.1f} MiB"
    print(f"{name}: {told}, besides {libraries.bytes / 2**20:.1f} MiB of workspaces")
    assert expected == pytest.approx(measured, rel=WITHIN_ON_A_GPU)


def test_workspaces_are_told_while_they_are_there(monkeypatch, tmp_path):
    # Without a card: what a run holds until its end, when Lightning clears it.
    held = {"bytes": 64 * 2**20}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: held["bytes"])
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: held.update(bytes=0), raising=False)
    monkeypatch.setattr(lightning.pytorch.accelerators.CPUAccelerator, "teardown", lambda _: held.update(bytes=0))
    libraries = Workspaces()
    trained({}, {}, 64, tmp_path, accelerator="cpu", callbacks=[libraries])
    assert libraries.bytes == 64 * 2**20
