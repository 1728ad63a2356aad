"""Two processes train as one, with each row's own voice: copies of a base, and shards that are read from its files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.core.pair import in_pair
from tests.qwen3_tts.recordings import fit_words, prepare, write_rows, write_tone
from tests.qwen3_tts.released import write_released
from tts_train.cli import main
from tts_train.contract import open_checkpoint
from tts_train_qwen3_tts.layout import CODEBOOKS, CODES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_copies_and_shards_have_the_weights_of_one_process(tmp_path):
    base = write_released(tmp_path / "base", shape="r17", kind="base", dtype=torch.float32)
    chance, rows = np.random.default_rng(0), []
    # Rows of one length, a batch each: the mean over two batches is that over their frames.
    for number in range(8):
        codes = chance.integers(0, CODES, (16, CODEBOOKS)).tolist()
        named = {"speaker": ("Anna", "ben")[number % 2], "ref_audio": f"{number}.wav"}
        rows.append({"audio": f"absent-{number}.wav", "text": "One and the same.", "audio_codes": codes, **named})
    corpus = write_rows(tmp_path / "corpus", rows)
    for number in range(len(rows)):
        write_tone(corpus.parent / f"{number}.wav", 1.2, 150.0 + 40 * number)
    assert prepare(corpus, tmp_path / "prepared", "--codec", str(base), "--tokenizer", str(base)) == 0

    def words(name, *more):
        given = ["--data.voice", "clip", "--data.batching", "padded", "--data.batch_size", "1", *more]
        return fit_words(
            tmp_path / "prepared", tmp_path / name, *given, "--trainer.precision", "32-true", init_from=base
        )

    assert main(words("one", "--trainer.accumulate_grad_batches", "2")) == 0
    ways = ("ddp", "fsdp")
    calls = [words(way, "--trainer.devices", "2", "--trainer.strategy", way) for way in ways]
    assert in_pair("tests.csm.pair_cases", tmp_path, calls) == [[0, 0]] * 2
    one = open_checkpoint(tmp_path / "one").weights()
    for way in ways:
        weights = open_checkpoint(tmp_path / way).weights()
        assert weights.keys() == one.keys()
        assert torch.equal(weights["network.lm.voices"], one["network.lm.voices"])
        for name, weight in weights.items():
            assert torch.allclose(weight, one[name], atol=2e-3), (way, name, float((weight - one[name]).abs().max()))
