"""Rows for the stage sovits: batches of like length by seed and epoch alone, padding, and what is left out."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.sovits_rows import write_rows
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.signal.mel import batch_spectrogram, spectrogram
from tts_train_gpt_sovits.stages.sovits.batch import HOP, fixed_draws, magnitudes, samples
from tts_train_gpt_sovits.stages.sovits.data import SovitsData


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


def opened(rows, **options):
    data = SovitsData(rows, **{"batch_size": 2, "val_share": 0.2, **options})
    data.setup("fit")
    return data


def test_what_is_too_short_is_left_out_and_counted(rows):
    data = opened(rows)
    about = data.describe()
    assert about["left_out"] == {"at most 0.64 s": 1}
    assert about["train_rows"] + about["val_rows"] == 10
    assert about["batches_per_epoch"] == len(data.train_batches(0))
    held = {data.val_set[i].id for i in range(len(data.val_set))}
    assert held.isdisjoint({data.train_set[i].id for i in range(len(data.train_set))})
    with pytest.raises(DataError, match="None of 11 utterances"):
        opened(rows, max_seconds=0.8)


def test_batches_are_a_function_of_seed_and_epoch(rows):
    plan = opened(rows, seed=1).train_batches(4)
    assert plan == opened(rows, seed=1).train_batches(4)
    assert plan != opened(rows, seed=1).train_batches(5)
    assert {row for batch in plan for row in batch} == set(range(len(opened(rows, seed=1).train_set)))
    other = opened(rows, seed=2, val_share=0.0).train_batches(4)
    assert other != opened(rows, seed=1, val_share=0.0).train_batches(4)


def test_ranks_see_one_bucket_at_a_time(tmp_path):
    data = opened(write_rows(tmp_path, count=8), batch_size=1, val_share=0.0)
    data._ranks = lambda: (0, 2)
    lengths = data._lengths[0]
    lengths[:4] = 400
    plan = data.train_batches(0)
    assert len(plan) == 8
    for first, second in zip(plan[::2], plan[1::2], strict=True):
        assert (lengths[first[0]] > 300) == (lengths[second[0]] > 300)
        assert first != second


def test_a_batch_is_padded_to_its_longest(rows):
    data = opened(rows, features=False)
    utterances = [data.train_set[i] for i in range(3)]
    batch = data.collate(utterances)
    frames = batch["frames"]
    assert batch["codes"].shape[1] * 2 == int(frames.max())
    assert batch["wave"].shape == (3, int(frames.max()) * HOP)
    assert batch["wave"].dtype == torch.int16
    assert samples(batch).abs().max() <= 1.0
    for i, each in enumerate(utterances):
        assert torch.equal(batch["codes"][i, : len(each.codes)], each.codes)
        assert not batch["wave"][i, int(frames[i]) * HOP :].any()
        assert int(frames[i]) == 2 * len(each.codes)
    assert batch["speaker"] is None
    assert batch["features"] is None


def test_a_padded_spectrogram_is_that_of_each_alone(rows):
    data = opened(rows)
    batch = data.collate([data.train_set[i] for i in range(3)])
    wave = samples(batch)
    together = magnitudes(wave, batch["frames"])
    for i, frames in enumerate(batch["frames"].tolist()):
        alone = spectrogram(wave[i : i + 1, : frames * HOP])
        torch.testing.assert_close(together[i : i + 1, :, :frames], alone)
        assert not together[i, :, frames:].any()
    torch.testing.assert_close(batch_spectrogram(wave[:1], batch["frames"][:1] * HOP)[..., :3], together[:1, :, :3])


def test_validation_draws_belong_to_the_utterance(rows):
    data = opened(rows)
    utterances = [data.train_set[i] for i in range(3)]
    both = [
        fixed_draws(data.collate(chosen), latent=4, frames=32, device=torch.device("cpu"))
        for chosen in (utterances, utterances[2:])
    ]
    (starts, noise), (start, alone) = both
    assert starts[2] == start[0]
    assert torch.equal(noise[2, :, : alone.shape[2]], alone[0])
    assert (starts + 32 <= data.collate(utterances)["frames"]).all()


def test_stored_features_fill_the_frames(tmp_path):
    data = opened(write_rows(tmp_path, count=3, ssl=True), features=True, val_share=0.0)
    batch = data.collate([data.train_set[0], data.train_set[1]])
    assert batch["features"].shape == (2, 768, 2 * batch["codes"].shape[1])
    with pytest.raises(DataError, match="--keep_ssl"):
        opened(write_rows(tmp_path / "without", count=2), features=True).train_set[0]


def test_a_validation_set_of_its_own(rows, tmp_path):
    data = opened(rows, val_path=write_rows(tmp_path, count=3))
    assert (len(data.train_set), len(data.val_set)) == (10, 3)
    assert data.val_batches() == [[0, 1], [2]]
    assert data.val_languages == ["en", "zh"]


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"max_seconds": 60.0}, {"max_seconds": 0.5}], ids=str)
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(ConfigError, match="--data"):
        SovitsData("x", **given)
