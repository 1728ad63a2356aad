"""What a run says about itself, what may change when it continues, and when it is finished."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from tests.core.run.test_continuation import last_of, only
from tests.core.run.toy import Toy, ToyData, run
from tts_train.checkpoints.folder_io import load_state
from tts_train.errors import ConfigError, DataError, DiskError, Interrupted
from tts_train.run.checkpoint import open_checkpoint
from tts_train.run.difference import differences, refuse_identity_changes
from tts_train.run.directory import RunDirectory
from tts_train.run.hyperparameters import configured
from tts_train.training.survive.checkpoint import CheckpointOptions

CONFIG = {"model": {"init_from": "tiny", "lr": 0.05, "lora": {"rank": 8}}, "data": {"path": "a"}}


def test_run_json_and_the_card(tmp_path):
    run(tmp_path, config=CONFIG)
    record = RunDirectory(tmp_path).read_record()
    assert (record["backend"], record["stage"], record["seed"], record["step"]) == ("toy", "only", 5, 20)
    assert (record["exit_reason"], record["exit_code"], record["data"]) == ("finished", 0, {"rows": 15})
    opened = open_checkpoint(tmp_path)
    assert (opened.step, opened.card.backend, opened.card.config) == (20, "toy", CONFIG)
    assert set(opened.weights()) == {"net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias"}


def test_a_finished_run_says_so_and_trains_no_more(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tts_train")
    run(tmp_path)
    again = run(tmp_path)
    assert again.seen == []
    assert again.validated == []
    assert "This run is finished: step 20" in caplog.text


class Removes(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        shutil.rmtree(trainer.default_root_dir, ignore_errors=True)
        (Path(trainer.default_root_dir) / "history.jsonl").open("rb")


def test_a_run_directory_removed_while_it_trains_is_named(tmp_path):
    with pytest.raises(DiskError, match="was removed while it trained"):
        run(tmp_path, extra=[Removes()])


def test_best_is_kept_from_rotation_and_is_the_best(tmp_path):
    module = run(tmp_path, keep=2, val_check_interval=1.0)
    found = RunDirectory(tmp_path)
    by_step = {}
    for step, _, loss in module.validated:
        by_step.setdefault(step, []).append(loss)
    best = min(by_step, key=lambda step: sum(by_step[step]))
    assert found.linked("best") == best
    assert found.linked("last") == 20
    assert found.steps() == sorted({best, 19, 20})


def test_another_model_or_corpus_is_another_run(tmp_path):
    run(tmp_path, config=CONFIG, max_epochs=1)
    changed = {"model": {**CONFIG["model"], "init_from": "big", "lora": {"rank": 4}}, "data": {"path": "b"}}
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, config=changed, identity=("model.lora",))
    message = str(caught.value)
    assert "--model.init_from: 'tiny' -> 'big'" in message
    assert "--data.path: 'a' -> 'b'" in message
    assert "--model.lora.rank: 8 -> 4" in message
    assert f"--run_dir {tmp_path}-2" in message
    run(tmp_path, config={**CONFIG, "new": 1}, identity=("model.lora",))


class Trained(Toy):
    """The toy under another optimiser, or in other groups."""

    def __init__(self, kind):
        super().__init__(schedule="none")
        self.kind = kind

    def configure_optimizers(self):
        halves = [{"params": list(part.parameters())} for part in (self.net[0], self.net[3])]
        return {
            "sgd": lambda: torch.optim.SGD(self.parameters(), lr=0.05),
            "groups": lambda: torch.optim.AdamW(halves, lr=0.05),
            "part": lambda: torch.optim.AdamW(self.net[3].parameters(), lr=0.05),
            "two": lambda: [torch.optim.AdamW(half["params"], lr=0.05) for half in halves[:1]],
        }[self.kind]()


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("sgd", "sgd (1 parameter group of 4 tensors)"),
        ("groups", "adamw (2 parameter groups of 2, 2 tensors)"),
        ("part", "adamw (1 parameter group of 2 tensors)"),
        ("two", "adamw (1 parameter group of 2 tensors)"),
    ],
)
def test_another_optimiser_is_refused_by_name(kind, made, tmp_path):
    run(tmp_path, module=Toy(schedule="none"), max_epochs=1)
    record = RunDirectory(tmp_path).read_record()
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, module=Trained(kind))
    message = str(caught.value)
    assert f"trained by adamw (1 parameter group of 4 tensors), and these settings make {made}" in message
    assert f"--run_dir {tmp_path}-2 --model.init_from {tmp_path}" in message
    assert RunDirectory(tmp_path).read_record() == record


def test_a_checkpoint_that_names_no_optimiser_is_compared_by_its_groups(tmp_path, monkeypatch):
    whole = configured

    def older(*arguments):
        return {name: value for name, value in whole(*arguments).items() if name not in ("optimizers", "sizes")}

    monkeypatch.setattr("tts_train.training.survive.continuation.configured", older)
    run(tmp_path, module=Toy(schedule="none"), max_epochs=1)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"trained by an optimiser \(1 parameter group\), and these settings make"):
        run(tmp_path, module=Trained("groups"))
    assert run(tmp_path, module=Toy(schedule="none"), max_epochs=2).seen


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ("32-true", "bf16-true", True),
        ("bf16-true", "bf16-mixed", True),
        ("32-true", "bf16-mixed", False),
        (None, "32-true", False),
    ],
)
def test_weights_of_another_type_are_another_run(old, new, refused, tmp_path):
    changes = differences({"trainer": {"precision": old}}, {"trainer": {"precision": new}})
    if refused:
        with pytest.raises(ConfigError, match=r"--trainer\.precision"):
            refuse_identity_changes(changes, (), tmp_path)
    else:
        refuse_identity_changes(changes, (), tmp_path)


class OtherData(ToyData):
    """The toy's data with hashes, as backends have them, and with fewer batches if asked."""

    def __init__(self, hashes, batches=5):
        super().__init__()
        self.hashes, self.batches = hashes, batches

    def train_batches(self, epoch):
        return super().train_batches(epoch)[: self.batches]

    def describe(self):
        return {"rows": 3 * self.batches, "hash": self.hashes[0], "hashes": {"val_path": self.hashes[1]}}


def test_changed_data_are_told_of_also_after_a_kill(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tts_train")
    with pytest.raises(Interrupted):
        run(tmp_path, data=OtherData(("aa", "bb")), inject="term@step=8", every=1)
    assert RunDirectory(tmp_path).read_record()["data"]["hash"] == "aa"
    run(tmp_path, data=OtherData(("aa", "bb")), max_epochs=2)
    assert "has changed" not in caplog.text
    run(tmp_path, data=OtherData(("aa", "cc")), max_epochs=3)
    assert "--data.val_path has changed: hash bb -> cc. The data are not those" in caplog.text
    again = run(tmp_path, data=OtherData(("dd", "cc"), batches=2), max_epochs=5)
    assert "--data.path has changed: hash aa -> dd, 15 rows -> 6 rows" in caplog.text
    assert "until step 15" in caplog.text
    assert [seen[:2] for seen in again.seen] == [(3, 0), (3, 1), (4, 0), (4, 1)]


def test_fewer_data_than_the_epoch_had_begin_it_again(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, data=OtherData(("aa", "bb")), inject="term@step=8", every=1)
    again = run(tmp_path, data=OtherData(("dd", "bb"), batches=2), max_epochs=3)
    assert [seen[:2] for seen in again.seen] == [(1, 0), (1, 1), (2, 0), (2, 1)], "the epoch begins again"


def test_a_refused_command_leaves_nothing_behind(tmp_path):
    bad = ToyData()
    bad.describe = lambda: (_ for _ in ()).throw(DataError("no such data"))
    with pytest.raises(DataError):
        run(tmp_path / "runs" / "new", data=bad)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(DataError):
        run(tmp_path / "mine", data=bad)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    run(tmp_path / "good", max_epochs=1)
    before = {path: path.read_bytes() for path in (tmp_path / "good").glob("*.json")}
    with pytest.raises(DataError):
        run(tmp_path / "good", data=bad)
    assert {path: path.read_bytes() for path in (tmp_path / "good").glob("*.json")} == before


def test_a_file_where_the_run_should_lie_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=f"--run_dir {path} cannot be a folder, because {tmp_path / 'file'} is"):
            run(path)


@pytest.mark.parametrize("schedule", ["none", "fixed", "cosine"])
def test_a_changed_learning_rate_applies(schedule, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tts_train")
    straight = run(tmp_path / "straight", module=Toy(schedule=schedule))
    path = only(tmp_path / "straight", 8, tmp_path / "again")
    again = run(path, module=Toy(lr=0.005, schedule=schedule), config={"model": {"lr": 0.005}})
    before = [seen[5] for seen in straight.seen[8:]]
    after = [seen[5] for seen in again.seen]
    assert after == pytest.approx([rate / 10 for rate in before])
    assert "from 0.05 to 0.005" in caplog.text
    assert "--model.lr: (not set) -> 0.005" in caplog.text
    group = load_state(last_of(path), "optimizer_states")["optimizer_states"][0]["param_groups"][0]
    assert group.get("initial_lr", 0.005) == 0.005
    third = run(only(path, 12, tmp_path / "third"), module=Toy(lr=0.005, schedule=schedule))
    assert third.seen == again.seen[4:]


def test_a_changed_weight_decay_applies_and_the_moments_stay(tmp_path):
    class Decayed(Toy):
        def configure_optimizers(self):
            configured = super().configure_optimizers()
            for group in configured["optimizer"].param_groups:
                group["weight_decay"] = 0.5
            return configured

    run(tmp_path / "straight")
    path = only(tmp_path / "straight", 8, tmp_path / "again")
    run(path, module=Decayed())
    state = load_state(RunDirectory(path).step_path(9), "optimizer_states")["optimizer_states"][0]
    assert state["param_groups"][0]["weight_decay"] == 0.5
    assert state["state"][0]["step"].item() == 9


def test_a_changed_lambda_applies(tmp_path):
    run(tmp_path / "straight", module=Toy(schedule="fixed"))
    path = only(tmp_path / "straight", 8, tmp_path / "again")
    again = run(path, module=Toy(schedule="estimated"), max_epochs=8)
    assert [seen[5] for seen in again.seen] == [0.05 * (1 - step / 45) for step in range(8, 40)]


def test_differences_are_dotted_and_blind_to_spelling(tmp_path):
    old = {"a": {"b": 1, "c": [1, 2]}, "p": tmp_path, "gone": None}
    new = {"a": {"b": 2, "c": (1, 2)}, "p": str(tmp_path), "come": {}}
    assert [str(change) for change in differences(old, new)] == [
        "a.b: 1 -> 2",
        "come: (not set) -> {}",
        "gone: None -> (not set)",
    ]


@pytest.mark.parametrize(
    ("options", "flag"),
    [({"every_n_steps": 0}, "every_n_steps"), ({"keep": 1}, "keep"), ({"mode": "best"}, "mode")],
)
def test_options_are_checked(options, flag):
    with pytest.raises(ConfigError, match=f"--checkpoint.{flag} must be"):
        CheckpointOptions(**options)
