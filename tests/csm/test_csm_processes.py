"""CSM in two processes trains as in one: copies of it, shards, and shards that are read from a base's files."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tts_train_csm.layout import AUDIO_END, BEGIN_OF_TEXT, CODEBOOKS, END_OF_TEXT, LAYOUT

from tests.core.pair import in_pair
from tests.csm.small import pair
from tts_train.cli import main
from tts_train.run.checkpoint import open_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RANK_4 = ["--model.method", "lora", "--model.lora.rank", "4"]
TWO = {
    "ddp": ("full", ["--trainer.strategy", "ddp"]),
    "ddp-lora": ("lora", ["--trainer.strategy", "ddp", *RANK_4]),
    "fsdp": ("full", ["--trainer.strategy", "fsdp"]),
    "fsdp-lora": ("lora", ["--trainer.strategy", "fsdp", "--fsdp.checkpoint", "sharded", *RANK_4]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def common(folder):
    """Rows of one length, a batch each: the mean over two batches is that over their frames; transformers' own base."""
    chance, rows = np.random.default_rng(0), []
    for _ in range(20):
        audio = LAYOUT.codes_to_tokens([chance.integers(0, 2048, 6) for _ in range(CODEBOOKS)])
        rows.append([BEGIN_OF_TEXT, *chance.integers(0, 1000, 4), END_OF_TEXT, *audio, AUDIO_END])
    pq.write_table(pa.table({"input_ids": rows}), folder / "rows.parquet")
    theirs, _ = pair()
    theirs.save_pretrained(folder / "base", max_shard_size="4MB")
    words = ["fit", "--backend", "csm", "--data.path", str(folder / "rows.parquet"), "--data.val_share", "0.25"]
    words += ["--data.max_tokens", "13", "--model.init_from", str(folder / "base"), "--trainer.accelerator", "cpu"]
    words += ["--trainer.max_steps", "4", "--trainer.val_check_interval", "1", "--listen.sentences", "0"]
    return [
        *words,
        "--model.optimizer.lr",
        "0.01",
        "--model.schedule.name",
        "constant",
        "--trainer.precision",
        "32-true",
    ]


@pytest.fixture(scope="module")
def one(folder, common):
    for name, method in {"full": [], "lora": RANK_4}.items():
        run = ["--run_dir", str(folder / f"one-{name}"), "--trainer.accumulate_grad_batches", "2"]
        assert main([*common, *run, "--trainer.val_check_interval", "2", *method]) == 0


@pytest.fixture(scope="module")
def two(folder, common, one):
    calls = [
        [*common, "--run_dir", str(folder / name), "--trainer.devices", "2", *words] for name, (_, words) in TWO.items()
    ]
    assert in_pair("tests.csm.pair_cases", folder, calls) == [[0] * len(TWO)] * 2


def figures(run):
    lines = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    return {(line["step"], line["name"]): line["value"] for line in lines if line["name"].startswith("val/loss")}


@pytest.mark.parametrize("name", TWO)
def test_losses_and_weights_are_those_of_one_process(name, two, folder):
    expected, found = figures(folder / f"one-{TWO[name][0]}"), figures(folder / name)
    assert found == pytest.approx(expected, rel=1e-5)
    steps = sorted(step for step, figure in expected if figure == "val/loss")
    assert expected[steps[-1], "val/loss"] < expected[steps[0], "val/loss"] - 0.05
    weights = open_checkpoint(folder / name).weights()
    reference = open_checkpoint(folder / f"one-{TWO[name][0]}").weights()
    assert weights.keys() == reference.keys()
    for key, value in reference.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-4, msg=key)
