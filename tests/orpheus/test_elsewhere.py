"""A run whose paths were given relative is used from another folder, and without its data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.orpheus.family import open_run
from tests.orpheus.test_prepare import make_corpus
from tests.orpheus.trained_runs import write_run
from tts_train.cli import main
from tts_train.recipes import recipes_folder
from tts_train.report.source import DATASET_FILE, read_run
from tts_train.run.checkpoint import RunCard
from tts_train.scoring.sentences import learned_by
from tts_train_orpheus.tokenizer import tiny_tokenizer

torch.set_num_threads(1)

FIT = ["fit", "-c", str(recipes_folder() / "orpheus" / "lm-tiny.yaml"), "--run_dir", "runs/lora"]
SPOKEN = ["--constrain", "slots", "--max_new_tokens", "28", "--device", "cpu", "--seed", "1", "--speaker", "leo"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a tokenizer, a prepared set, and a run of adapters over another run, all named relative."""
    project = tmp_path_factory.mktemp("elsewhere") / "project"
    make_corpus(project / "corpus", 8, ("tara", "leo"))
    tiny_tokenizer().save_pretrained(project / "words" / "tiny")
    write_run(project / "runs" / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        words = ["--out", "data", "--codec", "tiny", "--tokenizer", "words/tiny", "--device", "cpu"]
        assert main(["prepare", "--backend", "orpheus", "--corpus", "corpus", *words]) == 0
        words = ["--data.path", "data", "--model.method", "lora", "--model.init_from", "runs/base"]
        words += ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
        assert main([*FIT, *words]) == 0
    return project


def test_a_copy_of_a_project_takes_its_own_data(project, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    assert open_run(Path("runs/lora")).base == "runs/base"
    assert open_run(project / "runs" / "lora").base == str(project / "runs" / "base"), "another run of the same name"
    (copy / "data" / DATASET_FILE).write_text('{"rows": 7}', encoding="utf-8")
    assert read_run(Path("runs/lora")).prepared_set["rows"] == 7
    shutil.rmtree(copy / "data")
    (copy / "data").mkdir()
    assert main(["fit", "--run_dir", "runs/lora", "--trainer.max_steps", "2"]) == 2
    assert f"{project / 'data'}" not in capsys.readouterr().err
    (copy / "data").rmdir()
    assert main(["fit", "--run_dir", "runs/lora", "--trainer.max_steps", "2"]) == 0, "what is not copied lies there"


def test_a_copy_takes_its_own_data_from_a_third_folder_too(project, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(tmp_path)
    assert open_run(Path("copy/runs/lora")).base == str(copy / "runs" / "base")
    (copy / "data" / DATASET_FILE).write_text('{"rows": 7}', encoding="utf-8")
    assert read_run(Path("copy/runs/lora")).prepared_set["rows"] == 7
    shutil.copy(project / "data" / DATASET_FILE, copy / "data")
    assert main(["fit", "--run_dir", "copy/runs/lora", "--trainer.max_steps", "2"]) == 0
    said = capsys.readouterr().err
    assert "--data.path" not in said, "it is the data of the copy, the same by their hash"
    assert str(copy / "data") in (copy / "runs" / "lora" / "config.yaml").read_text(encoding="utf-8")


def test_a_run_is_used_from_another_folder(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = str(project / "runs" / "lora")
    assert main(["synth", run, "--text", "Hello there.", "--out", "x.wav", *SPOKEN]) == 0
    assert main(["report", run, "--out", "page.html"]) == 0
    assert "cannot be reached from here" not in Path("page.html").read_text(encoding="utf-8")
    assert learned_by(Path(run)) is not None
    assert main(["fit", "--run_dir", run, "--trainer.max_steps", "2"]) == 0
    said = capsys.readouterr().err
    assert "Continuing" in said
    assert "data.path" not in said, "it is the same place"
    monkeypatch.chdir(project)
    assert main([*FIT, "--data.path", "./corpus"]) == 2
    assert "--data.path: " in capsys.readouterr().err, "another place is refused"


def test_a_run_speaks_when_its_data_are_gone_and_the_project_was_moved(project, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    shutil.copytree(project / "runs", moved / "runs")
    shutil.copytree(project / "words", moved / "words")
    monkeypatch.chdir(moved)
    for name in ("runs", "words"):
        (project / name).rename(project / f"no-{name}")
    first = str(min(Path("runs/lora/checkpoints").glob("step-*")))
    run = open_run(Path(first))
    assert run.codec == "tiny"
    assert run.speakers == ("leo", "tara")
    assert run.base == "runs/base", "where it lies in the project that was moved"
    (project / "data").rename(project / "gone")
    assert main(["synth", first, "--text", "Hello there.", "--out", "x.wav", *SPOKEN]) == 0


def test_a_card_gives_paths_as_they_are_reached_from_here(tmp_path, monkeypatch):
    (tmp_path / "there" / "tiny").mkdir(parents=True)
    (tmp_path / "there" / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    config = {"data": {"path": "data", "val_path": "/else", "seed": 3}, "model": {"init_from": "tiny"}}
    card = RunCard(backend="b", stage="s", config=config, folder=str(tmp_path / "there"))
    expected = {"path": str(tmp_path / "there" / "data"), "val_path": "/else", "seed": 3}
    assert card.options("data", "path", "val_path") == expected
    assert card.options("model", "init_from", names=("tiny",)) == {"init_from": "tiny"}
    again = RunCard.from_dict(card.as_dict(), source=tmp_path)
    assert again == card
    old = {name: value for name, value in card.as_dict().items() if name not in ("folder", "data")}
    assert RunCard.from_dict(old, source=tmp_path).options("data", "path")["path"] == "data"
