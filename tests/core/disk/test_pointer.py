"""``last`` and ``best`` where there are no links, and replacing what something else looks at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.core.run.test_directory import make_run
from tts_train.disk.files import move_directory, remove_directory, write_json
from tts_train.disk.pointer import followed, link_atomically, target_of
from tts_train.disk.provenance import read_provenance
from tts_train.jobs.checkpoints import choose_checkpoint
from tts_train.run.checkpoint import is_run, open_checkpoint
from tts_train.run.directory import RunDirectory


@pytest.fixture
def no_links(monkeypatch):
    def refuse(*_, **__):
        raise OSError(22, "A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)


def test_a_name_is_read_alike_as_a_link_and_as_a_file(tmp_path, monkeypatch):
    linked = make_run(tmp_path / "linked")
    with monkeypatch.context() as without:
        without.setattr(os, "symlink", lambda *_, **__: (_ for _ in ()).throw(OSError(22, "privilege")))
        written = make_run(tmp_path / "written")
        written.link("best", 2)
    assert (written.checkpoints / "last").is_file()
    assert (linked.checkpoints / "last").is_symlink()
    for run in (linked, written):
        assert run.linked("last") == 6
        last = run.checkpoints / "last"
        assert is_run(last)
        assert open_checkpoint(last).path == run.step_path(6).resolve()
        assert read_provenance(last).backend == "toy"
        assert followed(last).resolve() == run.step_path(6).resolve()
    assert choose_checkpoint(written.path, "best") == written.step_path(2)
    assert written.rotate(2) == []
    assert written.clean() == []


def test_one_kind_replaces_the_other_and_a_run_can_be_moved(tmp_path, no_links, monkeypatch):
    run = make_run(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_checkpoint(tmp_path / "b" / "checkpoints" / "last").step == 6
    monkeypatch.undo()
    last = tmp_path / "b" / "checkpoints" / "last"
    link_atomically(last, "step-000004")
    assert last.readlink() == Path("step-000004")
    monkeypatch.setattr(os, "symlink", lambda *_, **__: (_ for _ in ()).throw(OSError(22, "privilege")))
    link_atomically(last, "step-000002")
    assert (target_of(last), last.is_symlink()) == ("step-000002", False)
    assert run.path.name == "a"


@pytest.mark.parametrize("content", [b"", b"../../etc", b"step-000009\n", b"\xff\xfe", b"x" * 5000])
def test_a_file_that_leads_nowhere_is_no_checkpoint(content, tmp_path):
    run = make_run(tmp_path)
    (run.checkpoints / "best").write_bytes(content)
    assert followed(run.checkpoints / "best") == run.checkpoints / "best"
    assert not is_run(run.checkpoints / "best")


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_copy_that_followed_its_links_is_read_and_continued(name, tmp_path):
    made = make_run(tmp_path / "a")
    made.link("best", 2)
    shutil.copytree(made.path, tmp_path / "b")  # as scp and the storage of a cloud do
    run = RunDirectory(tmp_path / "b")
    step = {"last": 6, "best": 2}[name]
    assert run.linked(name) == step
    assert choose_checkpoint(run.path, name) == (run.path if name == "last" else run.step_path(2))
    assert run.steps() == [2, 4, 6]
    shutil.rmtree(run.step_path(step))  # the copy is the only one that is left
    assert run.clean() == []
    assert open_checkpoint(run.checkpoints / name).path == run.step_path(step).resolve()
    assert sorted(path.name for path in run.checkpoints.iterdir() if not path.is_symlink()) == [
        f"step-00000{step}" for step in (2, 4, 6)
    ]
    run.link(name, 4)
    assert run.linked(name) == 4


def test_a_folder_in_the_place_of_a_name_is_put_aside(tmp_path):
    run = make_run(tmp_path)
    (run.checkpoints / "best").mkdir()
    (run.checkpoints / "best" / "notes.txt").write_text("mine", encoding="utf-8")
    assert run.linked("best") is None
    assert run.clean() == []
    assert (run.checkpoints / "best.corrupt" / "notes.txt").read_text(encoding="utf-8") == "mine"


def busy(real, times, winerror):
    left = [times]

    def refuse(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            error = PermissionError(13, "Access is denied")
            if winerror:
                error.winerror = winerror
            raise error
        return real(*args, **kwargs)

    return refuse


def test_an_old_checkpoint_that_is_open_elsewhere_stays_until_it_is_closed(tmp_path, monkeypatch, caplog):
    run = make_run(tmp_path)
    monkeypatch.setattr("tts_train.disk.files._PAUSES", ())
    monkeypatch.setattr(os, "rename", busy(os.rename, 1, 5))
    assert run.rotate(2) == []
    assert "step-000002 is open in another program and stays for now" in caplog.text
    assert run.steps() == [2, 4, 6]
    assert run.rotate(2) == [2]
    make_run(tmp_path, steps=(8,))
    monkeypatch.setattr(os, "rename", busy(os.rename, 1, None))
    with pytest.raises(PermissionError):
        run.rotate(2)  # elsewhere it is no reason to wait


def test_what_a_scanner_holds_is_tried_again(tmp_path, monkeypatch):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name, encoding="utf-8")
    monkeypatch.setattr(os, "rename", busy(os.rename, 2, 5))
    monkeypatch.setattr(os, "replace", busy(os.replace, 2, 32))
    monkeypatch.setattr(shutil, "rmtree", busy(shutil.rmtree, 1, 145))
    move_directory(tmp_path / "new", tmp_path / "old")
    write_json(tmp_path / "old" / "run.json", {})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old", "run.json", "which"]
    remove_directory(tmp_path / "old")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "replace", busy(os.replace, 1, None))
    with pytest.raises(PermissionError):
        write_json(tmp_path / "run.json", {})  # elsewhere the first refusal stands
