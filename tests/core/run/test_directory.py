"""The newest valid checkpoint is found whatever happened to the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tts_train.checkpoints.folder_io import MANIFEST, DirectoryCheckpointIO
from tts_train.errors import DataError, DiskError
from tts_train.run.checkpoint import RunCard, open_checkpoint
from tts_train.run.directory import RunDirectory

CARD = RunCard(backend="toy", stage="only", config={"model": {"lr": 0.1}, "data": {"path": "x"}})


def make_run(path: Path, steps=(2, 4, 6)) -> RunDirectory:
    run = RunDirectory(path)
    run.create()
    for step in steps:
        state = {"global_step": step, "state_dict": {"w": torch.full((50,), float(step))}, "run_card": CARD.as_dict()}
        DirectoryCheckpointIO().save_checkpoint(state, run.step_path(step))
        run.link("last", step)
    return run


def truncate(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES = {
    **{
        f"truncate {name} to {share}": (lambda d, name=name, share=share: truncate(d / name, share))
        for name in ("model.safetensors", "state.json", MANIFEST)
        for share in (0, 0.01, 0.5, 0.99)
    },
    "flip weights": lambda d: flip(d / "model.safetensors"),
    "flip state": lambda d: flip(d / "state.json"),
    "no weights": lambda d: (d / "model.safetensors").unlink(),
    "no state": lambda d: (d / "state.json").unlink(),
    "no manifest": lambda d: (d / MANIFEST).unlink(),
    "manifest of nothing": lambda d: (d / MANIFEST).write_text("{}"),
    "manifest is a list": lambda d: (d / MANIFEST).write_text("[]"),
    "other step's files": lambda d: [
        (d / n).write_bytes((d.parent / "step-000004" / n).read_bytes()) for n in ("model.safetensors", "state.json")
    ],
    "other step's directory": lambda d: [
        p.write_bytes((d.parent / "step-000004" / p.name).read_bytes()) for p in d.iterdir()
    ],
    "emptied": lambda d: [p.unlink() for p in d.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_newest_is_set_aside_and_the_previous_used(damage, tmp_path, caplog):
    run = make_run(tmp_path)
    damage(run.step_path(6))
    assert run.newest_valid(repair=False) == run.step_path(4)
    assert run.step_path(6).exists()
    assert open_checkpoint(run.path).step == 4
    caplog.clear()
    assert run.newest_valid() == run.step_path(4)
    assert not run.step_path(6).exists()
    assert (run.checkpoints / "step-000006.corrupt").is_dir()
    assert run.linked("last") == 4
    assert "An earlier checkpoint is used" in caplog.text
    assert "step-000006.corrupt" in caplog.text


def test_times_do_not_matter(tmp_path):
    run = make_run(tmp_path)
    os.utime(run.step_path(2), (4e9, 4e9))
    os.utime(run.step_path(6), (1, 1))
    assert run.newest_valid() == run.step_path(6)


def test_steps_beyond_six_digits_sort_as_numbers(tmp_path):
    run = make_run(tmp_path, steps=(999_999, 1_000_000))
    assert run.newest_valid() == run.step_path(1_000_000)


def test_rotation_keeps_the_newest_and_the_best_and_counts_only_valid_ones(tmp_path):
    run = make_run(tmp_path, steps=(1, 2, 3, 4, 5, 6))
    run.link("best", 1)
    truncate(run.step_path(5) / "model.safetensors", 0.5)
    assert run.rotate(3) == [2]
    assert run.steps() == [1, 3, 4, 5, 6]
    assert run.rotate(0) == [3]
    assert run.newest_valid() == run.step_path(6)
    assert [p for p in run.checkpoints.iterdir() if p.name.startswith(".tmp")] == []


def test_links_are_relative_and_survive_a_move(tmp_path):
    run = make_run(tmp_path / "a")
    assert (run.checkpoints / "last").readlink() == Path("step-000006")
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_checkpoint(tmp_path / "b" / "checkpoints" / "last").step == 6


def test_a_link_that_the_disk_refuses_says_so(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)

    def refuse(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tts_train.run.directory.link_atomically", refuse)
    with pytest.raises(DiskError, match="No space left on device"):
        run.link("last", 3)


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    run = make_run(tmp_path)
    (run.checkpoints / ".tmp-step-000008.host.1").mkdir()
    (run.checkpoints / ".tmp-step-000008.host.1" / "model.safetensors").write_bytes(b"x")
    (run.path / ".tmp-run.json.host.1").write_text("{")
    assert len(run.clean()) == 2
    assert run.newest_valid() == run.step_path(6)
    assert list(run.path.rglob(".tmp-*")) == []


@pytest.mark.parametrize("given", ["", "checkpoints/last", "checkpoints/step-000004"])
def test_open_checkpoint_takes_a_run_a_link_or_a_directory(given, tmp_path):
    run = make_run(tmp_path)
    opened = open_checkpoint(run.path / given)
    assert opened.step == (4 if given.endswith("4") else 6)
    assert opened.path == run.step_path(opened.step).resolve()
    assert opened.card == CARD
    assert opened.card.versions["torch"]
    assert torch.equal(opened.weights()["w"], torch.full((50,), float(opened.step)))


def test_open_checkpoint_says_what_it_looked_for(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(DataError, match="neither a run directory"):
        open_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(DataError, match="holds no valid checkpoint"):
        open_checkpoint(tmp_path)
    DirectoryCheckpointIO().save_checkpoint({"global_step": 1}, tmp_path / "step-000001")
    with pytest.raises(DataError, match="no run card"):
        open_checkpoint(tmp_path / "step-000001")


def test_space_is_checked(tmp_path):
    run = make_run(tmp_path)
    run.check_space(1, purpose="A checkpoint")
    with pytest.raises(DiskError, match=r"3 checkpoints needs 1e\+06 GB in .* lower --checkpoint.keep"):
        run.check_space(10**15, purpose="Room for 3 checkpoints")


def test_record_is_updated_in_one_step_and_a_damaged_one_is_replaced(tmp_path):
    run = make_run(tmp_path)
    run.update_record(seed=1, exit_reason=None)
    run.update_record(exit_reason="done")
    assert run.read_record() == {"seed": 1, "exit_reason": "done"}
    run.record.write_text("{")
    assert run.read_record() == {}
