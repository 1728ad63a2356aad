"""Checkpoints written beside training: whole or invisible, of the step they were made at, and failing aloud."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from tests.core.checkpoints.test_checkpoint_io import checkpoint, same
from tests.core.run.test_continuation import last_of
from tests.core.run.test_faults import fork, wait
from tests.core.run.toy import Toy, digest, run
from tts_train.checkpoints import folder_io as checkpoint_io, staging
from tts_train.checkpoints.folder_io import LATER, DirectoryCheckpointIO, verify
from tts_train.disk.background import BackgroundWrites
from tts_train.errors import DiskError
from tts_train.run.directory import RunDirectory

MIB = 1 << 20


def test_work_is_done_in_order_and_not_after_a_failure():
    writes, done = BackgroundWrites(), []

    def fail() -> None:
        raise OSError("no")

    for work in (lambda: done.append(1), lambda: done.append(2), fail, lambda: done.append(3)):
        writes.submit(work)
    with pytest.raises(OSError, match="no"):
        writes.wait()
    assert done == [1, 2]
    writes.poll()  # it is raised once
    assert not writes.pending


def test_what_builds_on_a_failed_write_is_left_out_even_if_its_failure_was_raised_meanwhile():
    writes, done = BackgroundWrites(), []

    def fail() -> None:
        raise OSError("no")

    def told() -> None:
        with pytest.raises(OSError, match="no"):
            writes.poll()
        done.append("told")

    writes.submit(fail)
    writes._last.join()  # it has failed, and what builds on it is submitted only now
    told()
    writes.submit(lambda: done.append("built on it"))
    writes.wait()
    assert done == ["told"]
    writes.submit(lambda: done.append("anew"))
    writes.wait()
    assert done == ["told", "anew"]


class Gated:
    """Lets a write go on only when told, and notes what can be seen until then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.go = folder, threading.Event()
        self.writer = DirectoryCheckpointIO(after_write=self._after)
        self.seen: list[list[str]] = []

    def _after(self, path: Path) -> None:
        self.go.wait(30)
        self.seen.append(sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")))


@pytest.mark.parametrize("piece", [64, staging.PIECE])
def test_what_is_written_is_what_was_saved_whatever_training_does_meanwhile(piece, tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "PIECE", piece)  # tensors lie across pieces
    held, saved = Gated(tmp_path), checkpoint()
    saved["value"] = [torch.randn(3, 4).t(), torch.randn(4, 6)[:, ::2], torch.tensor(True), torch.empty(0, 4)]
    expected = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, saved)
    expected["state_dict"]._metadata = saved["state_dict"]._metadata
    held.writer.save_checkpoint(saved, tmp_path / "step-000004", LATER)
    assert held.writer.writes.pending
    with torch.no_grad():
        for tensor in (*saved["state_dict"].values(), *saved["optimizer_states"][0]["state"][0].values()):
            tensor.zero_()
        saved["lr_schedulers"][0]["base_lrs"][0] = 7.0
    held.go.set()
    held.writer.finish()
    assert held.seen == [[]] * 5 + [["step-000004"]]
    loaded = DirectoryCheckpointIO().load_checkpoint(tmp_path / "step-000004")
    del expected["hyper_parameters"]
    assert same({**expected, "value": 0}, {**loaded, "value": 0})
    assert all(torch.equal(a, b) for a, b in zip(expected["value"], loaded["value"], strict=True))


def test_a_save_waits_for_the_one_before(tmp_path):
    held = Gated(tmp_path)
    held.writer.save_checkpoint(checkpoint(4), tmp_path / "step-000004", LATER)
    threading.Timer(0.3, held.go.set).start()
    held.writer.save_checkpoint(checkpoint(5), tmp_path / "step-000005")
    assert held.seen[-1] == ["step-000004", "step-000005"]
    assert [len(seen) for seen in held.seen] == [0] * 4 + [1] * 5 + [2]


def test_where_no_memory_can_be_pinned_a_save_uses_ordinary_memory_and_says_so_once(monkeypatch, caplog):
    empty = torch.empty

    def refuse(*size, pin_memory=False, **how):
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")
        return empty(*size, **how)

    monkeypatch.setattr(torch, "empty", refuse)
    monkeypatch.setattr(staging, "PIECE", 64)
    room = staging.Staging()
    with caplog.at_level("WARNING"):
        room.begin(200, pinned=True)
        room.begin(300, pinned=True)
    assert room.nbytes >= 300
    values = torch.randn(50)
    assert torch.equal(torch.cat(room.copy(values)).view(torch.float32), values)
    assert [record.getMessage() for record in caplog.records] == [
        "No more memory can be pinned for checkpoints, so saving waits longer: CUDA error: out of memory"
    ]


def test_where_memory_is_short_training_waits_and_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint_io, "free_host_memory", lambda: staging.SPARE)
    writer = DirectoryCheckpointIO()
    with caplog.at_level(logging.INFO, "tts_train"):
        writer.save_checkpoint(checkpoint(4), tmp_path / "step-000004", LATER)
        assert not writer.writes.pending
        verify(tmp_path / "step-000004")
        monkeypatch.setattr(checkpoint_io, "free_host_memory", lambda: 2 * staging.SPARE)
        writer.save_checkpoint(checkpoint(5), tmp_path / "step-000005", LATER)
        writer.finish()
    assert ["waits" in record.message for record in caplog.records] == [True, False]


def test_a_disk_that_refuses_is_told_when_asked_and_leaves_nothing(tmp_path):
    writer = DirectoryCheckpointIO()
    (tmp_path / "file").write_text("in the way")
    writer.save_checkpoint(checkpoint(), tmp_path / "file" / "step-000004", LATER)
    with pytest.raises(DiskError, match="could not be written"):
        writer.finish()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


class Slow(Callback):
    """Notes which steps were trained while a checkpoint was being written."""

    def __init__(self) -> None:
        self.during: list[int] = []

    def setup(self, trainer, pl_module, stage):
        self.next = threading.Event()
        trainer.strategy.checkpoint_io.after_write = lambda _: self.next.wait(2)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.strategy.checkpoint_io.writes.pending:
            self.during.append(trainer.global_step)
        self.next.set()
        if trainer.global_step % 2:
            self.next.clear()


@pytest.mark.slow
def test_training_goes_on_while_it_is_saved_and_ends_the_same(tmp_path):
    slow = Slow()
    whole = run(tmp_path / "whole", every=1000, max_steps=8, monitor=None)
    beside = run(tmp_path / "beside", every=2, keep=2, max_steps=8, extra=[slow], monitor=None)
    assert slow.during
    assert beside.seen == whole.seen
    assert RunDirectory(tmp_path / "beside").steps() == [6, 8]
    assert digest(last_of(tmp_path / "beside")) == digest(last_of(tmp_path / "whole"))
    assert RunDirectory(tmp_path / "beside").linked("last") == 8


class Held(Callback):
    """Holds every write back until `go` is set, so that a step surely runs while a checkpoint is being written."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def setup(self, trainer, pl_module, stage):
        trainer.strategy.checkpoint_io.after_write = lambda _: self.go.wait(60)


class Dies(Held):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            assert trainer.strategy.checkpoint_io.writes.pending
            threading.Timer(0.1, self.go.set).start()
            raise RuntimeError("a step failed")


def test_an_error_in_a_step_waits_until_the_checkpoint_is_whole(tmp_path):
    with pytest.raises(RuntimeError, match="a step failed"):
        run(tmp_path, every=3, extra=[Dies()], monitor=None)
    assert RunDirectory(tmp_path).newest_valid() == RunDirectory(tmp_path).step_path(3)
    assert RunDirectory(tmp_path).linked("last") == 3


def test_killed_while_it_is_written_nothing_of_it_is_seen(tmp_path):
    class Killed(Held):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 5:
                assert trainer.strategy.checkpoint_io.writes.pending
                os.kill(os.getpid(), signal.SIGKILL)

    child = fork(lambda: run(tmp_path / "hurt", every=5, extra=[Killed()], monitor=None))
    assert wait(child) == -signal.SIGKILL
    assert RunDirectory(tmp_path / "hurt").steps() == []
    again = run(tmp_path / "hurt", every=5, monitor=None)
    assert again.seen == run(tmp_path / "whole", every=1000, monitor=None).seen


def own_memory() -> int:
    """Bytes that no file stands behind; mapped pages that are as in the file can be dropped at any time."""
    (line,) = [x for x in Path("/proc/self/smaps_rollup").read_text().splitlines() if x.startswith("Anonymous:")]
    return int(line.split()[1]) * 1024


def test_a_checkpoint_is_read_without_memory_of_its_own(tmp_path):
    weights, states = torch.ones(48 * MIB // 4), torch.zeros(48 * MIB // 4)
    saved = {
        "global_step": 1,
        "state_dict": OrderedDict(weight=weights),
        "optimizer_states": [{"state": {0: {"exp_avg": states}}}],
    }
    DirectoryCheckpointIO().save_checkpoint(saved, tmp_path / "step-000001")
    DirectoryCheckpointIO().load_checkpoint(tmp_path / "step-000001")  # whatever is imported for it
    before = own_memory()
    loaded = DirectoryCheckpointIO().load_checkpoint(tmp_path / "step-000001")
    assert torch.equal(loaded["state_dict"]["weight"], weights)
    assert own_memory() - before < 16 * MIB
    loaded["optimizer_states"][0]["state"][0]["exp_avg"].add_(1)
    verify(tmp_path / "step-000001")


class Maps(Callback):
    def on_train_batch_start(self, trainer, *_):
        self.seen = Path("/proc/self/maps").read_text()


def test_a_continued_run_keeps_no_file_mapped(tmp_path):
    run(tmp_path, max_steps=4, max_epochs=-1, module=Toy(schedule="fixed"))
    maps = Maps()
    run(tmp_path, max_steps=5, max_epochs=-1, module=Toy(schedule="fixed"), extra=[maps])
    assert str(tmp_path) not in maps.seen  # other tests of this process may hold files of theirs


@pytest.mark.gpu
def test_copies_from_a_card_are_those_of_the_moment(tmp_path):
    writer, tensor = DirectoryCheckpointIO(), torch.arange(1 << 24, device="cuda", dtype=torch.float32)
    expected = tensor.cpu()
    saved = {"global_step": 1, "state_dict": OrderedDict(weight=tensor)}
    for _ in range(2):  # the second uses the memory of the first
        writer.save_checkpoint(saved, tmp_path / "step-000001", LATER)
        tensor.add_(1)
        writer.writes.wait()
        loaded = DirectoryCheckpointIO().load_checkpoint(tmp_path / "step-000001")
        assert torch.equal(loaded["state_dict"]["weight"], expected)
        expected = expected + 1
