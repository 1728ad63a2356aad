"""Two processes agree on the step at which they stop, and ask each other only now and then."""

from __future__ import annotations

import pytest

from tests.core.pair import in_pair
from tests.core.run.toy import digest
from tts_train.checkpoints.folder_io import verify
from tts_train.run.directory import RunDirectory
from tts_train.training.survive.stopping import AGREE_EVERY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stop")


@pytest.fixture(scope="module")
def found(folder):
    calls = [
        {"run_dir": "second", "rank": 1, "step": 3, "every": 1000},
        {"run_dir": "saving", "rank": 1, "step": 3, "every": 5},
        {"run_dir": "never", "rank": 1, "step": 99, "every": 1000},
        {"run_dir": "beside", "rank": 1, "step": 99, "every": 4},
    ]
    return in_pair("tests.core.training.stop_cases", folder, calls)


def test_all_stop_at_the_same_step_within_ten(found, folder):
    for rank, words in enumerate(("another rank", "SIGTERM")):
        assert found[rank][0]["ended"].startswith(f"Stopped by {words}; saved at step {AGREE_EVERY}.")
    assert RunDirectory(folder / "second").steps() == [AGREE_EVERY]


def test_a_save_asks_as_well(found, folder):
    assert "saved at step 5." in found[0][1]["ended"]
    assert RunDirectory(folder / "saving").steps() == [5]


def test_they_ask_every_ten_steps_and_at_the_last(found):
    for rank in found:
        assert rank[2]["ended"] == "finished"
        assert rank[2]["asked_at"] == [10, 20, 24]


def test_the_first_of_several_processes_writes_beside_training(found, folder):
    saved = RunDirectory(folder / "beside")
    assert saved.steps() == [4, 8, 12, 16, 20, 24]
    assert saved.linked("last") == 24
    assert [rank[3]["asked_at"] for rank in found] == [[4, 8, 10, 12, 16, 20, 24]] * 2
    for step in saved.steps():
        verify(saved.step_path(step))
    assert digest(saved.step_path(24)) == digest(RunDirectory(folder / "never").step_path(24))
