"""Data that are not what a stage needs: each is named for what it is, with what to type instead."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.gpt_sovits.sovits_rows import write_rows
from tests.orpheus.test_data import write_set
from tts_train.cli import main
from tts_train.errors import DataError
from tts_train.run.directory import RunDirectory
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_orpheus.stage import OrpheusData

STAGES = {"gpt_sovits": (GptData, SovitsData), "orpheus": (OrpheusData,)}
ALL = [(backend, data) for backend, modules in STAGES.items() for data in modules]


def refused(data, path):
    with pytest.raises(DataError) as caught:
        data(str(path)).setup("fit")
    return str(caught.value)


@pytest.mark.parametrize(("backend", "data"), ALL)
def test_what_lies_at_the_path_is_named(backend, data, tmp_path, monkeypatch):
    write_set(tmp_path / "orpheus", [5, 6])
    write_rows(tmp_path / "gpt_sovits", count=2)
    other, kind = ("orpheus", "orpheus/lm") if backend == "gpt_sovits" else ("gpt_sovits", "gpt_sovits/speech")
    said = refused(data, tmp_path / other)
    assert f"holds '{kind}' and '{backend}/" in said
    assert f"tts-train prepare --backend {backend} " in said
    assert f"is a part of the prepared folder {tmp_path / other}" in refused(data, tmp_path / other / "data")

    (tmp_path / "sounds" / "wavs").mkdir(parents=True)
    soundfile.write(tmp_path / "sounds" / "wavs" / "a.wav", np.zeros(800), 8000)
    said = refused(data, tmp_path / "sounds")
    assert "holds recordings (a.wav, for one) and no prepared set" in said
    assert f"tts-train prepare --backend {backend} --corpus {tmp_path / 'sounds'} --out" in said

    (tmp_path / "empty").mkdir()
    assert "is empty; it holds no prepared set" in refused(data, tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    assert refused(data, ".").endswith(f"--out {tmp_path / 'empty'}")
    monkeypatch.chdir(tmp_path / "sounds")
    assert f"--out {tmp_path / 'sounds-prepared'}" in refused(data, ".")
    RunDirectory(tmp_path / "run").create()
    assert "is a run directory or a checkpoint" in refused(data, tmp_path / "run")
    (tmp_path / "notes.csv").write_text("a,b")
    assert f"{tmp_path / 'notes.csv'} is a file, and no prepared set is one" in refused(data, tmp_path / "notes.csv")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "columns.parquet")
    assert re.search(r"has no column .* \(it has other\)", refused(data, tmp_path / "columns.parquet"))


def lists(values, kind):
    return pa.array([values] * 6, pa.list_(kind))


PHONEMES, CODES, WAVE = lists([5] * 9, pa.int16()), lists([7] * 30, pa.int16()), lists([0] * 38400, pa.int16())
WRONG = {
    "column codes of .* is not a list of whole numbers a row, but string": {"codes": pa.array(["1 2"] * 6)},
    "column codes of .* is not a list of whole numbers .*double>": {"codes": lists([7.0], pa.float64())},
    "column codes of .* has lists in which a number is missing": {"codes": lists([7, None], pa.int16())},
    "column codes of .* has 1024, and its numbers are from 0 to 1023": {"codes": lists([7, 1024], pa.int16())},
    "column phonemes of .* has -1, and": {"phonemes": lists([-1, 3], pa.int16())},
    "column phonemes of .* is not a list": {"phonemes": pa.array([5] * 6)},
}
WRONG_FOR_ONE = {
    "column bert of .* is not a list": (GptData, {"bert": pa.array(["x"] * 6)}),
    "column language of .* is not a text": (SovitsData, {"language": PHONEMES}),
    "column wave of .* is not a list of whole numbers": (SovitsData, {"wave": lists([0.5] * 900, pa.float32())}),
    "column speaker_vector of .* is not a list": (SovitsData, {"speaker_vector": pa.array([True] * 6)}),
}


def write(path, columns):
    pq.write_table(pa.table({"phonemes": PHONEMES, "codes": CODES, "wave": WAVE, **columns}), path)
    return path


@pytest.mark.parametrize("message", [*WRONG, *WRONG_FOR_ONE])
def test_columns_that_hold_something_else_are_refused_by_name(message, tmp_path):
    only, columns = WRONG_FOR_ONE.get(message, (None, WRONG.get(message)))
    path = write(tmp_path / "rows.parquet", columns)
    for data in (GptData, SovitsData):
        if only in (None, data):
            assert re.search(message, refused(data, path))


def test_a_row_without_sound_is_named_when_it_is_read(tmp_path):
    sounds = pa.array([None, *[[0] * 38400] * 5], pa.list_(pa.int16()))
    data = SovitsData(str(write(tmp_path / "rows.parquet", {"wave": sounds, "id": list("abcdef")})), val_share=0.0)
    data.setup("fit")
    with pytest.raises(DataError, match="'a' has no wave"):
        data.train_set[0]


def test_columns_of_other_whole_types_are_read(tmp_path):
    columns = {
        "codes": pa.array([[7] * 30] * 6, pa.large_list(pa.uint64())),
        "phonemes": pa.array([[5] * 9] * 6, pa.list_(pa.int32(), 9)),
        "language": pa.array([3] * 6),
        "bert": pa.array([None] * 6),
    }
    path = write(tmp_path / "rows.parquet", columns)
    for data in (GptData(str(path)), SovitsData(str(path), batch_size=2)):
        data.setup("fit")
        batch = data.collate([data.train_set[row] for row in data.train_batches(0)[0]])
        assert batch


SMALL = {
    "gpt": (["--model.tiny.phonemes", "40"], "has the phoneme 40, and tiny has 40 phonemes (0 to 39)"),
    "sovits": (["--model.version", "v1"], "has the phoneme 400, and v1 has 322 (0 to 321)"),
}


@pytest.mark.parametrize("stage", SMALL)
def test_a_table_that_lacks_phonemes_of_the_data_is_refused_before_a_step(stage, tmp_path, capsys):
    more, said = SMALL[stage]
    phonemes = lists([5] * 8 + [40 if stage == "gpt" else 400], pa.int16())
    path = write(tmp_path / "rows.parquet", {"phonemes": phonemes})
    words = ["--backend", "gpt_sovits", "--stage", stage, "--data.path", str(path), "--trainer.accelerator", "cpu"]
    words += ["--trainer.max_steps", "1", "--model.init_from", "tiny", "--run_dir", str(tmp_path / "run"), *more]
    for verb in ("fit", "validate"):
        assert main([verb, *words]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
