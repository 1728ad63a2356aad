"""Rehearsal and the losses by language: in which batches, in which figures."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.gpt_sets import fit, trainer_for, write_set
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.stages.gpt.batches import RehearsalOptions
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import GptModule


@pytest.fixture
def data_for(tmp_path):
    own = write_set(tmp_path / "own.parquet", 40, languages=("en",))
    other = write_set(tmp_path / "other.parquet", 30, seed=3, languages=("ja", "zh"))

    def make(share=0.25, **options):
        rehearsal = RehearsalOptions(path=other, share=share, val_share=0.2)
        data = GptData(own, max_tokens=120, val_share=0.1, rehearsal=rehearsal, **options)
        data.setup("fit")
        return data

    return make


@pytest.mark.parametrize("batching", ["packed", "upstream"])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_every_epoch_has_the_share_and_goes_on_through_the_second_set(data_for, batching, share):
    data = data_for(share, batching=batching, batch_size=4)
    total, own = len(data.train_set), len(data.train_set.parts[0])
    seen, sizes = [], set()
    for epoch in range(6):
        plan = data.train_batches(epoch)
        assert plan == data.train_batches(epoch)
        kinds = [{row % total >= own for row in batch} for batch in plan]
        assert all(len(kind) == 1 for kind in kinds)
        rehearsed = [batch for batch, kind in zip(plan, kinds, strict=True) if True in kind]
        assert len(rehearsed) / len(plan) == pytest.approx(share, abs=1 / len(plan))
        spoken = [row % total for batch, kind in zip(plan, kinds, strict=True) if True not in kind for row in batch]
        assert set(spoken) == set(range(own))
        sizes.add(len(plan))
        seen += [row % total for batch in rehearsed for row in batch]
    assert len(sizes) == 1
    laps, rest = divmod(len(seen), total - own)
    assert laps >= 1
    counts = [seen.count(row) for row in range(own, total)]
    assert set(counts) <= {laps, laps + 1}
    assert counts.count(laps + 1) == rest


def test_a_batch_says_what_it_is_of(data_for):
    data = data_for()
    batches = [data.collate([data.train_set[row] for row in batch]) for batch in data.train_batches(1)]
    assert {(batch["rehearsed"], language) for batch in batches for language in batch["languages"]} == {
        (False, "en"),
        (True, "ja"),
        (True, "zh"),
    }


def test_figures_by_language_stand_beside_those_of_the_set_itself(data_for, tmp_path):
    data = data_for()
    module = GptModule(dropout=0.0)
    figures = trainer_for(tmp_path).validate(module, data, verbose=False)[0]
    assert {name for name in figures if name.startswith("val/loss/")} == {"val/loss/en", "val/loss/ja", "val/loss/zh"}
    own, other = data.val_set.parts
    wanted = {}
    for part in (own, other):
        for place in range(len(part)):
            with torch.no_grad():
                losses = module.network(data.collate([part.read(place, 0)])).losses
            wanted.setdefault(part.languages[place], []).append(losses)
    for language, losses in wanted.items():
        assert figures[f"val/loss/{language}"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert figures["val/loss"] == pytest.approx(figures["val/loss/en"])


def test_what_is_rehearsed_is_not_forgotten(data_for, tmp_path):
    torch.manual_seed(0)
    start = trainer_for(tmp_path).validate(GptModule(), data_for(), verbose=False)[0]
    trained = fit(GptModule(), data_for(0.5), tmp_path, 40).callback_metrics
    assert trained["val/loss/ja"] < start["val/loss/ja"] - 0.5
    assert trained["val/loss/en"] < start["val/loss/en"] - 0.5


@pytest.mark.parametrize("options", [{"reference": "start"}, {"padding": "upstream"}], ids=str)
def test_dpo_rehearses_without_pairs(data_for, tmp_path, options):
    figures = fit(DpoModule(**options), data_for(pairs="made"), tmp_path, 20).callback_metrics
    assert {"val/margin", "val/loss/ja", "val/loss/en"} <= set(figures)


def test_sets_of_different_kinds_are_not_mixed(tmp_path):
    data = GptData(write_set(tmp_path / "a.parquet"), max_tokens=300)
    source = data._open(data.path)
    other = data._open(write_set(tmp_path / "b.parquet", seed=1))
    source.check_alike(other)
    source.prepared.index, other.prepared.index = {"settings": {"version": "v2"}}, {"settings": {"version": "v1"}}
    with pytest.raises(DataError, match="version v1"):
        source.check_alike(other)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_all_is_refused(share):
    with pytest.raises(ConfigError, match=r"--data\.rehearsal\.share"):
        RehearsalOptions(share=share)
