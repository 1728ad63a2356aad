"""What a run says about itself, what may change when it continues, and when it is finished."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from tests.core.run.test_continuation import last_of, only
from tests.core.run.toy import Toy, run
from tts_train.callbacks.checkpoint import CheckpointOptions
from tts_train.errors import ConfigError, DiskError
from tts_train.run.checkpoint import open_checkpoint
from tts_train.run.checkpoint_io import load_state
from tts_train.run.difference import differences
from tts_train.run.directory import RunDirectory

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
