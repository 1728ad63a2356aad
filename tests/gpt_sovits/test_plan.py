"""The plan of small runs of each stage against what the same runs allocate on a CPU; released ones without files."""

from __future__ import annotations

from typing import Any

import lightning
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from tests.core.memory.allocated import Allocated, highest
from tts_train.contract.data import StageData
from tts_train.memory.cards import GIB
from tts_train.memory.step.gradients import DropGradients
from tts_train.memory.step.step import Step, run_steps
from tts_train_gpt_sovits.networks.gpt.attention import _triangle
from tts_train_gpt_sovits.networks.gpt.network import Positions
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.module import SovitsModule
from tts_train_gpt_sovits.starts.gpt import TinyGptOptions, planned_network
from tts_train_gpt_sovits.starts.sovits_base import base_generator
from tts_train_gpt_sovits.voice.listen import sound_bytes
from tts_train_gpt_sovits.voice.reference import Reference
from tts_train_gpt_sovits.voice.voice import GptSovitsVoice

SIZES = TinyGptOptions(width=128, heads=4, layers=4)
WITHIN = 0.05
STEPS = 3
PAIRS = GptData("nowhere", pairs="made")
CLIPS = SovitsData("nowhere", max_seconds=2.0)


def gpt(**options: Any) -> GptModule:
    return GptModule(tiny=SIZES, **options)


def dpo(**options: Any) -> DpoModule:
    return DpoModule(tiny=SIZES, **({"reference": "start", "optimizer_kind": "standard"} | options))


RUNS: dict[str, tuple[Any, StageData, int, dict[str, Any]]] = {
    "gpt": (gpt, GptData("nowhere"), 960, {}),
    "gpt, accumulated": (gpt, GptData("nowhere"), 480, {"accumulate_grad_batches": 2}),
    "gpt, standard": (lambda: gpt(optimizer_kind="standard"), GptData("nowhere"), 960, {"gradient_clip_val": 1.0}),
    "dpo": (dpo, PAIRS, 640, {}),
    "dpo, lora, checkpointed": (lambda: dpo(method="lora", gradient_checkpointing=True), PAIRS, 640, {}),
    "sovits": (SovitsModule, CLIPS, 2, {}),
    "sovits, checkpointed": (lambda: SovitsModule(gradient_checkpointing=True), CLIPS, 3, {}),
    "cfm": (CfmModule, CLIPS, 2, {}),
}

QUICK = ("gpt",)
"""The others are for the slow tier."""


def trained(module: lightning.LightningModule, batch: Any, trainer: dict[str, Any]) -> int:
    each = trainer.get("accumulate_grad_batches", 1)
    heard = Allocated(each)
    run = lightning.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=False,
        callbacks=[DropGradients(), heard],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    )
    torch.manual_seed(0)
    run.fit(module, train_dataloaders=DataLoader([batch] * (STEPS * each), batch_size=None, collate_fn=lambda one: one))
    # What is there before the second step and is no weight: the batch, and tables that the first step has made.
    frozen = getattr(module, "_frozen", ())
    parts = [part for one in (module, *frozen) for part in one.modules()]
    tables = [part._table for part in parts if isinstance(part, Positions)]
    if tables:
        tables.append(_triangle(512, torch.float32, torch.device("cpu")))
    copies = [each for one in frozen for each in one.parameters()]
    beside = [each for each in [*tree_leaves(batch), *tables, *copies] if isinstance(each, torch.Tensor)]
    return heard.peak_bytes + sum(each.nbytes for each in beside)


def planned(module: lightning.LightningModule, data: StageData, size: int, **trainer: Any) -> Step:
    device = trainer.pop("device", "cpu")
    return run_steps(module, data.sample_batch, lambda done: None if done else size, trainer, device=device)[0]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUNS]
)
def test_plan_is_what_a_cpu_allocates(name):
    build, data, size, trainer = RUNS[name]
    # The plan first, as in `fit`: nothing of its shapes may be left for the run.
    expected = planned(build(), data, size, **trainer).peak_bytes
    heard = trained(build(), data.sample_batch(size), trainer)
    print(f"{name}: planned {expected / 2**20:.1f} MiB, allocated {heard / 2**20:.1f} MiB")
    assert expected == pytest.approx(heard, rel=WITHIN)


class Names(TorchDispatchMode):
    """Notes which operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    ("build", "data", "size"),
    [
        (gpt, GptData("nowhere"), 480),
        (lambda: gpt(padding="upstream"), GptData("nowhere"), 480),
        (dpo, PAIRS, 480),
        (SovitsModule, CLIPS, 2),
        (CfmModule, CLIPS, 2),
    ],
    ids=["gpt", "gpt padded", "dpo", "sovits", "cfm"],
)
@pytest.mark.slow
def test_a_plan_for_a_gpu_asks_for_its_attention(build, data, size, precision, monkeypatch):
    module, names = build(), Names()
    step = module.training_step

    def noted(*given: Any) -> Any:
        with names:
            return step(*given)

    monkeypatch.setattr(module, "training_step", noted)
    planned(module, data, size, device="cuda", precision=precision)
    attention = {name for name in names.seen if "attention" in name}
    assert "_scaled_dot_product_efficient_attention" in attention
    assert not {name for name in attention if name.endswith("for_cpu")}


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_listening_takes_what_a_cpu_allocates_to_make_sound(version):
    network = base_generator("tiny", version=version).network.eval()
    voice = GptSovitsVoice(gpt=None, sovits=network, version=version)
    none = torch.zeros(0, dtype=torch.long)
    reference = Reference(
        phonemes=none,
        bert=torch.zeros(0, 1024),
        codes=none,
        spectrogram=torch.rand(1, 1025, 100),
        speaker=None,
        language="en",
        about="made up",
    )
    codes, phonemes = torch.zeros(100, dtype=torch.long), torch.zeros(40, dtype=torch.long)
    voice.sound(codes, phonemes, reference)  # tables are made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as done:
        voice.sound(codes, phonemes, reference)
    taken = highest(done)
    print(f"{version}: planned {sound_bytes(network, version, 4) / 2**20:.1f} MiB, taken {taken / 2**20:.1f} MiB")
    assert sound_bytes(network, version, 4) == pytest.approx(taken, rel=0.05)


@pytest.mark.parametrize("build", [SovitsModule, CfmModule])
def test_a_plan_knows_what_listening_takes(build):
    heard, texts = build(), build(gpt="tiny")
    for module in (heard, texts):
        module.configure_shapes()
    assert 0 < heard.voice_bytes(1) == heard.voice_bytes(4) < texts.voice_bytes(1)
    assert planned_network("v2").config == GptConfig()


@pytest.mark.slow
def test_a_released_version_is_planned_without_its_files():
    step = planned(SovitsModule("v2"), SovitsData("nowhere"), 4, device="cuda", precision="16-mixed")
    assert 2 * GIB < step.peak_bytes < 3 * GIB
    assert step.breakdown["optimizer"] == pytest.approx(2 * step.breakdown["weights"], rel=0.05)


def test_a_batch_of_utterances_has_the_size_of_usual_ones():
    batch = SovitsData("nowhere").sample_batch(3)
    assert batch["wave"].shape == (3, 320_000)
    assert batch["codes"].shape == (3, 250)
    assert batch["frames"].tolist() == [500] * 3
    assert SovitsData("nowhere", max_seconds=4.0, features=True).sample_batch(1)["features"].shape == (1, 768, 200)
