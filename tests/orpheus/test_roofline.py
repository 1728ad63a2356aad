"""``benchmarks/roofline.py``: a recipe of a small network, and a token of generation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.memory.cards import GIB, card_named
from tts_train.recipes import recipes_folder
from tts_train_orpheus import layout

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = str(recipes_folder() / "orpheus" / "lm-tiny.yaml")
ON_A_CARD = ("--trainer.accelerator", "gpu", "--trainer.precision", "bf16-true")


@pytest.fixture
def roofline(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import roofline

    yield roofline
    for name in ("roofline", "roofline_generate"):
        sys.modules.pop(name)


def told(roofline, capsys, *words: str) -> dict:
    assert roofline.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_sum_of_kinds_is_the_step(roofline, capsys):
    report = told(roofline, capsys, "-c", TINY, "--max-tokens", "256", "--card", "4090", *ON_A_CARD)
    assert report["card"] == "RTX 4090"
    (row,) = report["rows"].values()
    assert row["tokens"] == 256
    assert sum(row["by_work_ms"].values()) == pytest.approx(row["device_ms"], abs=0.05)
    assert row["step_ms"] == pytest.approx(max(row["device_ms"], row["host_ms"]) + row["waiting_ms"], abs=0.02)
    assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["step_ms"] * 1e3, rel=0.01)
    assert row["by_work_ms"]["recomputation"] == row["by_work_ms"]["copies"] == 0
    for work in ("products", "attention", "head", "norms", "element-wise", "optimiser"):
        assert row["by_work_ms"][work] > 0, work
    assert len(row["dearest_ms"]) == 5
    # Six operations a weight and token: the head's 156,940 rows of 64 are nearly all of this network.
    least = 6 * layout.VOCAB_SIZE * 64 * 256
    assert least < row["mfu"] * card_named("4090").half_flops * row["step_ms"] / 1e3 < 1.3 * least


def test_recomputation_is_counted_apart_and_not_as_utilisation(roofline, capsys):
    words = (*ON_A_CARD, "--model.tiny.layers", "4", "--model.tiny.mlp", "1024")
    card = card_named("H100")
    plain = roofline.training_row(["-c", TINY, *words], card, 80 * GIB)
    again = roofline.training_row(["-c", TINY, *words, "--model.gradient_checkpointing", "true"], card, 80 * GIB)
    assert again["by_work_ms"]["recomputation"] > 0
    assert again["launches"] > plain["launches"]
    useful = [row["mfu"] * row["step_ms"] for row in (plain, again)]
    assert useful[0] == pytest.approx(useful[1], rel=0.01)
    auto = ["--model.gradient_checkpointing", "true", "--model.checkpoint_share", "auto"]
    assert roofline.training_row(["-c", TINY, *words, *auto], card, 80 * GIB)["checkpoint_share"] == 0.0


def test_a_token_of_generation_reads_the_weights_once(roofline):
    from roofline_generate import counted_step, generation_figures

    size, card = TinyOptions(hidden=256, layers=3, heads=4, kv_heads=2, mlp=1024), card_named("H100")
    one, many = (counted_step(batch, card, size) for batch in (1, 16))
    layers = 3 * (256 * 256 * 2 + 2 * 256 * 128 + 3 * 256 * 1024)
    weights = 2 * (layers + layout.VOCAB_SIZE * 256)
    assert weights < one.bytes < many.bytes
    assert one.by_work["products"] + one.by_work["head"] > weights / card.memory_rate
    assert one.waits == many.waits == 0, "what was drawn is read behind the step"
    figures = generation_figures(16, many)
    assert figures["tokens_per_s"] > 4 * generation_figures(1, one)["tokens_per_s"]
    assert figures["tokens_per_s"] >= figures["tokens_per_s_eager"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lm-tiny"], "-c RECIPE"),
        (["-c", "nowhere.yaml"], "nowhere.yaml"),
        (["--card", "RTX9999", "--generate", "1"], "H100"),
        (["--generate", "0"], "1 or more"),
        (["--name", "x/y", "--generate", "1"], "x/y"),
    ],
)
def test_mistakes_end_with_what_to_type_before_anything_is_counted(roofline, capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        roofline.main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
