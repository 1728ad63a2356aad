"""Training on pairs: what they are compared with, which numbers are computed once, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tts_train_csm.model import CSM
from tts_train_csm.stage import CsmPairs, CsmPreference

from tests.families.finch import FINCH, FinchPairs, FinchPreference
from tests.families.pairs import recorded, taken
from tts_train.checking import check_training
from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.adapters import LoraOptions
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.families.token_lm.preference.reference import start_logps
from tts_train.optim import OptimizerOptions, ScheduleOptions

TINY = TinyOptions(hidden=32, layers=1)
FAST = {"optimizer": OptimizerOptions(lr=1e-3), "schedule": ScheduleOptions(name="constant"), "tiny": TINY}
STILL = OptimizerOptions(lr=1e-30)
ADAPTED = {"method": "lora", "lora": LoraOptions(rank=4)}


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    return taken(FINCH, tmp_path_factory.mktemp("takes") / "takes", 8)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return recorded(FINCH, tmp_path_factory.mktemp("recordings") / "set", [8 + number % 4 for number in range(10)])


class Seen(Callback):
    """Keeps what a step logs, and does something before each."""

    def __init__(self, before=None):
        self.figures, self.before, self.validated = [], before, {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.before:
            self.before(pl_module, batch)

    def on_validation_end(self, trainer, pl_module):
        self.validated = {name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.figures.append({name: float(value) for name, value in trainer.callback_metrics.items()} | self.validated)


def trained(path, tmp_path, *, steps=3, before=None, kind=FinchPreference, pairs=FinchPairs, **model):
    module = kind(init_from="tiny", **{**FAST, **model})
    data = pairs(str(path), max_tokens=120, val_share=0.3)
    seen = Seen(before)
    given = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        num_sanity_val_steps=-1,
        callbacks=[seen],
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
        enable_model_summary=False,
        **given,
    )
    trainer.fit(module, datamodule=data)
    return module, data, seen.figures


@pytest.mark.parametrize("options", [{}, ADAPTED], ids=["full", "lora"])
def test_a_network_is_its_own_reference_before_the_first_step(options, takes, tmp_path):
    module, _, figures = trained(takes, tmp_path, **options)
    first = figures[0]
    assert first["train/preference"] == pytest.approx(math.log(2), abs=1e-6)
    assert {first[f"train/{name}"] for name in ("margin", "chosen_reward", "rejected_reward", "kl")} == {0.0}
    assert first["val/kl"] == 0.0
    last = figures[-1]
    assert last["train/margin"] > 0
    assert last["train/pair_accuracy"] == 1
    assert last["train/loss"] < first["train/loss"]
    assert last["train/margin"] == pytest.approx(last["train/chosen_reward"] - last["train/rejected_reward"], abs=1e-5)
    assert not module._frozen


def test_a_step_uses_the_numbers_of_the_start_whatever_was_trained_since(takes, tmp_path):
    held = {}

    def keep(module, batch):
        for row, pair in zip(batch["rows"].tolist(), module._held(batch, "train").view(-1, 2), strict=True):
            held.setdefault(row, []).append(pair.tolist())

    module, data, _ = trained(takes, tmp_path, steps=4, before=keep)
    assert all(each == of[0] for of in held.values() for each in of)
    fresh, *_ = trained(takes, tmp_path, steps=1, optimizer=STILL)
    for row, of in held.items():
        alone = start_logps(fresh.network, data.collate([data.train_set[row]]))
        assert alone.tolist() == pytest.approx(of[0], rel=1e-5)
    now = start_logps(module.network, data.collate([data.train_set[0]]))
    assert now.tolist() != pytest.approx(held[0][0], abs=0.1)


def test_dropout_has_no_part_in_the_reference(takes, tmp_path):
    lora = LoraOptions(rank=4, dropout=0.9)
    module, data, _ = trained(takes, tmp_path, steps=2, method="lora", lora=lora)
    assert module.network.training
    batch = data.collate([data.train_set[0]])
    assert torch.equal(start_logps(module.network, batch), start_logps(module.network, batch))
    assert module.network.training


@pytest.mark.parametrize("options", [{}, ADAPTED], ids=["full", "lora"])
def test_faults_that_are_made_are_compared_with_the_start_step_by_step(options, recordings, tmp_path):
    module, data, figures = trained(recordings, tmp_path, **options)
    assert bool(module._frozen) == (not options)
    assert figures[0]["train/kl"] == 0.0
    assert figures[-1]["train/kl"] != 0.0
    fresh, *_ = trained(recordings, tmp_path, steps=1, **{**options, "optimizer": STILL})
    batch = data.collate([data.train_set[0], data.train_set[1]])
    assert torch.equal(module._held(batch, "train"), start_logps(fresh.network, batch))
    assert all(each.requires_grad for name, each in module.network.named_parameters() if ".lora_" in name)


@pytest.mark.parametrize("loss", ["robust", "sigmoid_norm", "ipo", "orpo"])
def test_every_objective_trains(loss, takes, tmp_path):
    more = {"label_smoothing": 0.1} if loss == "robust" else {}
    module, _, figures = trained(takes, tmp_path, loss=loss, beta=0.5, **more)
    assert figures[-1]["train/loss"] < figures[0]["train/loss"]
    reference_free = loss == "orpo"
    assert module.sft_weight == float(reference_free)
    assert bool(module._start) is not reference_free
    assert ("train/kl" in figures[0]) is not reference_free


def test_the_ordinary_loss_of_better_takes_is_added_by_its_weight(takes, tmp_path):
    _, _, figures = trained(takes, tmp_path, sft_weight=0.5)
    for split in ("train", "val"):
        part = figures[0]
        assert part[f"{split}/loss"] == pytest.approx(part[f"{split}/preference"] + 0.5 * part[f"{split}/sft"])
    assert figures[-1]["train/sft"] < figures[0]["train/sft"]


@pytest.mark.parametrize("options", [{}, {"sft_weight": 1.0}, {"loss": "orpo"}], ids=["dpo", "with sft", "orpo"])
def test_what_is_compared_is_what_is_drawn(options, takes, tmp_path):
    module = FinchPreference(init_from="tiny", **{**FAST, **options})
    check_training("dpo", module, FinchPairs(str(takes), val_share=0.0), runs_in=tmp_path)


def test_frames_are_compared_by_all_of_their_codes(tmp_path):
    folder = taken(CSM, tmp_path / "takes", 6)
    module, data, figures = trained(folder, tmp_path, kind=CsmPreference, pairs=CsmPairs)
    assert figures[0]["train/preference"] == pytest.approx(math.log(2), abs=1e-6)
    assert figures[-1]["train/margin"] > 0
    row = data.train_set[0].pair
    codes = CSM.layout.slots * (1 + len(row.chosen) // CSM.layout.slots)  # the end is a frame
    assert data.collate([data.train_set[0]])["said"][0] == codes
    assert module.probe(data).weight(data.collate([data.train_set[0]])) > codes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta": 0.0}, r"--model.beta must be above 0"),
        ({"sft_weight": -1.0}, r"--model.sft_weight 0 or more .*-1 and 0 were given"),
        ({"label_smoothing": 0.5}, r"--model.label_smoothing from 0 to below 0.5"),
        ({"label_smoothing": 0.1, "loss": "ipo"}, r"is for --model.loss sigmoid, robust, sigmoid_norm; with ipo leave"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        FinchPreference(init_from="tiny", **options)


def test_faults_cannot_be_compared_with_an_embedding_that_is_trained_beside_adapters(recordings, tmp_path):
    lora = LoraOptions(rank=4, train_embedding=True, train_head=True)
    with pytest.raises(ConfigError, match=r"train_embedding and train_head change that as well.*tts-train sample"):
        trained(recordings, tmp_path, method="lora", lora=lora)
