"""Training behind a reference: what cloning gives a model to read, and only what follows it is learnt."""

import json
import pickle

import numpy as np
import pytest

from tests.qwen3_tts.recordings import prepare, texts, write_rows
from tts_train.cli import main
from tts_train.errors import ConfigError
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.stage import Qwen3TTSData

SPEAKERS = ("Anna", "ben", "Anna", "Anna", "ben", "alone")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    home = tmp_path_factory.mktemp("pairs")
    rows = [row | {"speaker": speaker} for row, speaker in zip(texts(6), SPEAKERS, strict=True)]
    assert prepare(write_rows(home / "tones", rows), home / "prepared") == 0
    return home / "prepared"


def opened(prepared, **options):
    data = Qwen3TTSData(str(prepared), **{"val_share": 0.0, "max_tokens": 512, **options})
    data.setup("fit")
    return data


def test_a_row_goes_on_from_another_one_of_its_speaker(prepared):
    plain, paired = opened(prepared), opened(prepared, references=1.0)
    speakers = {}
    for index in range(len(plain.train_set)):
        before, after = plain.train_set[index], paired.train_set[index]
        (speaker,) = (int(row) for row in before.input_ids if LAYOUT.voice_base <= row < LAYOUT.voice_base + 9)
        speakers.setdefault(speaker, []).append(index)
        assert len(LAYOUT.starts(after.input_ids)) == paired.train_set.lengths[index]
    for rows in speakers.values():
        for index in rows:
            before, after = plain.train_set[index], paired.train_set[index]
            if len(rows) == 1:
                assert np.array_equal(after.input_ids, before.input_ids)
                continue
            own = before.input_ids[np.argmax(before.input_ids == LAYOUT.start_of_speech) + 1 :]
            # Its own frames and its end are the last ones, and all that is learnt.
            assert np.array_equal(after.input_ids[after.learn_from :], own)
            others = [plain.train_set[other].input_ids for other in rows if other != index]
            told = [row[np.argmax(row == LAYOUT.start_of_speech) + 1 : -1] for row in others]
            read = after.input_ids[np.argmax(after.input_ids == LAYOUT.start_of_speech) + 1 : after.learn_from]
            assert any(np.array_equal(read, each) for each in told)
    batch = paired.collate([paired.train_set[index] for index in range(len(paired.train_set))])
    learnt = sum(int((document.input_ids == LAYOUT.end_of_speech).sum()) for document in paired.train_set)
    assert len(batch["kept"]) == len(batch["learnt"]) + learnt
    assert len(batch["codes"]) > len(batch["learnt"])


def test_the_choice_is_that_of_the_seed_and_stays(prepared):
    def ids(**options):
        return [document.input_ids.tolist() for document in opened(prepared, **options).train_set]

    assert ids(references=1.0) == ids(references=1.0)
    assert ids(references=1.0) != ids(references=1.0, seed=3)
    assert ids(references=0.0) == ids()


def test_a_reference_that_would_be_too_long_is_left_out(prepared):
    longest = int(opened(prepared).train_set.lengths.max())
    data = opened(prepared, references=1.0, max_tokens=longest)
    assert data.max_length == longest
    assert int(data.train_set.lengths.max()) <= longest


def test_a_reading_process_gets_the_same_rows(prepared):
    paired = opened(prepared, references=1.0).train_set
    sent = pickle.loads(pickle.dumps(paired))  # noqa: S301 - as processes get it
    assert [row.input_ids.tolist() for row in sent] == [row.input_ids.tolist() for row in paired]


def test_a_share_beyond_one_is_refused(prepared):
    with pytest.raises(ConfigError, match="0 to 1"):
        opened(prepared, references=1.5)


def test_it_trains_and_continues(prepared, tmp_path):
    words = ["fit", "--backend", "qwen3_tts", "-c", "lm-tiny", "--data.path", str(prepared), "--data.references", "0.7"]
    words += ["--run_dir", str(tmp_path / "run"), "--data.val_share", "0", "--trainer.val_check_interval", "null"]
    words += ["--trainer.limit_val_batches", "0", "--listen.sentences", "0"]
    assert main([*words, "--trainer.max_steps", "2"]) == 0
    assert main([*words, "--trainer.max_steps", "3"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())
