"""The stages gpt and dpo train on prepared rows, validate, save, and mirror upstream when asked."""

from __future__ import annotations

import pytest
import torch
from jsonargparse import ArgumentParser

from tests.gpt_sovits.gpt_sets import fit, trainer_for, write_set
from tts_train.errors import ConfigError, DataError
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import pack
from tts_train_gpt_sovits.networks.gpt.padded import unpack, unpack_rejected
from tts_train_gpt_sovits.released import s1_config, write_s1
from tts_train_gpt_sovits.released.gpt_names import config_to_upstream, to_upstream
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import DESCRIPTION, GptModule
from tts_train_gpt_sovits.starts.gpt import TinyGptOptions, load_base

TINY = TinyGptOptions()


@pytest.fixture
def prepared(tmp_path):
    return write_set(tmp_path / "rows.parquet", too_long=True)


# Chance is log(1025), 6.9 nats; at its locked rate upstream's optimiser is slow from random weights.
@pytest.mark.parametrize(("kind", "below"), [("scaled_adam", 5.0), ("standard", 3.4)])
def test_the_gpt_stage_learns(prepared, tmp_path, kind, below):
    torch.manual_seed(0)
    data = GptData(prepared, max_tokens=300, val_share=0.2)
    module = GptModule(
        optimizer_kind=kind, optimizer=OptimizerOptions(lr=3e-3), schedule=ScheduleOptions("constant"), tiny=TINY
    )
    trainer = fit(module, data, tmp_path, steps=60)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert figures["val/loss"] < below
    assert 0 <= figures["val/top3"] <= 1
    assert figures["val/utterance_loss"] == pytest.approx(figures["val/loss"], rel=0.2)
    if kind == "scaled_adam":
        assert trainer.optimizers[0].param_groups[0]["lr"] == 0.002


def test_what_cannot_be_used_is_left_out_and_counted(prepared):
    data = GptData(prepared, max_tokens=300, val_share=0.2)
    data.setup("fit")
    about = data.describe()
    assert about["train_rows"] + about["val_rows"] == 12
    assert about["left_out"] == {"333.3 phonemes a second are more than 25": 1}
    assert sorted(row for batch in data.train_batches(0) for row in batch) == list(range(about["train_rows"]))
    with pytest.raises(DataError, match="max_tokens 20"):
        GptData(prepared, max_tokens=20).setup("fit")


def test_made_pairs_differ_by_epoch_and_repeat_by_seed(prepared):
    def rejected(epoch, seed=0):
        data = GptData(prepared, max_tokens=300, pairs="made", seed=seed)
        data.setup("fit")
        rows = sorted(row for batch in data.train_batches(epoch) for row in batch)
        return [data.train_set[row].rejected.tolist() for row in rows]

    assert rejected(0) == rejected(0)
    assert rejected(0) != rejected(1)


def test_upstreams_order_repeats_small_sets(prepared):
    data = GptData(prepared, batching="upstream", batch_size=4, val_share=0.0)
    data.setup("fit")
    drawn = [row for batch in data.train_batches(1) for row in batch]
    assert sorted(row % 12 for row in drawn) == sorted(list(range(12)) * 8)
    assert len(set(drawn)) == 96


@pytest.mark.parametrize(
    ("pairs", "options"),
    [
        ("stored", {}),
        ("stored", {"padding": "upstream"}),
        ("stored", {"reference": "start"}),
        ("made", {"reference": "start"}),
        pytest.param("made", {"reference": "start", "sft_weight": 0.0, "beta": 0.5}, marks=pytest.mark.slow),
    ],
    ids=["plain", "upstream", "reference", "made pairs", "preference only"],
)
def test_the_dpo_stage_widens_the_margin(prepared, tmp_path, pairs, options):
    data = GptData(prepared, max_tokens=300, pairs=pairs, val_share=0.2)
    module = DpoModule(
        tiny=TINY, dropout=0.0, optimizer_kind="standard", optimizer=OptimizerOptions(lr=1e-2), **options
    )
    start = trainer_for(tmp_path).validate(module, data, verbose=False)[0]
    figures = fit(module, data, tmp_path, steps=25).callback_metrics
    assert figures["val/margin"] > start["val/margin"] + 0.5
    if "reference" in options:
        assert start["val/margin"] == pytest.approx(0.0, abs=1e-5)
    assert 0 <= figures["val/pair_accuracy"] <= 1
    assert not any("_frozen" in name for name in module.state_dict())


def test_pairs_are_unpacked_as_they_were(prepared):
    data = GptData(prepared, max_tokens=300, pairs="made")
    data.setup("fit")
    rows = [data.train_set[i] for i in range(4)]
    batch = pack(rows)
    for padded, wanted in ((unpack(batch), "codes"), (unpack_rejected(batch), "rejected")):
        for i, each in enumerate(rows):
            codes = getattr(each, wanted)
            assert padded.code_lengths[i] == len(codes)
            assert torch.equal(padded.codes[i, : len(codes)], codes)
            assert torch.equal(padded.phonemes[i, : len(each.phonemes)], each.phonemes)
            assert padded.text_lengths[i] == len(each.phonemes)


@pytest.mark.parametrize("pairs", ["none", "made"])
@pytest.mark.parametrize("size", [2, 300, 2047])
def test_a_made_up_batch_is_as_full_as_asked(pairs, size):
    batch = GptData("nowhere", pairs=pairs).sample_batch(size)
    assert len(batch["phonemes"]) + sum(batch["counts"]) - len(batch["counts"]) == size
    assert ("rejected_targets" in batch) is (pairs == "made")


def test_it_starts_from_an_exported_file(tmp_path):
    config = GptConfig(width=32, heads=2, layers=2)
    network = GptNetwork(config)
    path = tmp_path / "voice-e3.ckpt"
    write_s1(path, to_upstream(network.state_dict()), config=s1_config(config_to_upstream(config)), info="GPT-e3")
    loaded = load_base(str(path), tiny=TINY, dropout=0.0)
    assert loaded.config.width == 32
    assert loaded.config.dropout == 0.0
    assert torch.equal(loaded.head.weight, network.head.weight.detach().half().float())
    assert loaded.head.weight.dtype == torch.float32


def test_a_checkpoint_says_its_sizes():
    module = GptModule(tiny=TINY)
    module.configure_model()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint[DESCRIPTION]["hidden_dim"] == 32


@pytest.mark.parametrize(
    "given",
    [
        {"beta": 0.0},
        {"label_smoothing": 0.5},
        {"sft_weight": -1.0},
        {"dropout": 1.0},
        {"padding": "upstream", "reference": "start"},
        {"padding": "upstream", "sft_weight": 0.5},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(ConfigError, match="--model"):
        DpoModule(**given)


def test_every_option_is_a_flag():
    parser = ArgumentParser()
    parser.add_class_arguments(DpoModule, "model")
    parser.add_class_arguments(GptData, "data")
    given = [
        "--model.beta=0.3",
        "--model.tiny.layers=1",
        "--model.padding=upstream",
        "--data.path=x",
        "--data.filter.max_seconds=9",
    ]
    parsed = parser.parse_args(given)
    assert parsed.model.beta == 0.3
    assert parsed.model.tiny.layers == 1
    assert parsed.data.filter.max_seconds == 9


@pytest.mark.parametrize("sizes", [{"layers": 0}, {"width": 30, "heads": 4}], ids=str)
def test_a_tiny_network_of_no_size_is_refused(sizes):
    with pytest.raises(ConfigError, match=r"--model\.tiny"):
        TinyGptOptions(**sizes)
