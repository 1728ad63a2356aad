"""Every stage teaches what it generates: codes that are drawn, slices that are spoken, velocities of the flow."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.gpt_sets import write_set
from tests.gpt_sovits.sovits_rows import write_rows
from tts_train import Training, export
from tts_train.checking import check_run, check_training
from tts_train.run.checkpoint import open_checkpoint
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.module import SovitsModule


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("codes") / "rows.parquet")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("sounds"), count=5)


@pytest.mark.parametrize("module", [GptModule, DpoModule])
def test_codes_are_taught_as_they_are_drawn(codes, tmp_path, module):
    pairs = "made" if module is DpoModule else "none"
    check_training("gpt", module(), GptData(codes, max_tokens=300, pairs=pairs), runs_in=tmp_path)


def moved(module):
    """Let no part begin with outputs of 0, through which no gradient comes: a step or two would do it."""

    class Moved(module):
        def build(self):
            super().build()
            for weight in self.network.parameters():
                weight.data += 0.02 * torch.randn_like(weight)

    return Moved


def test_generator_and_critics_are_taught(sounds, tmp_path):
    torch.manual_seed(0)
    check_training("sovits", moved(SovitsModule)(), SovitsData(sounds, batch_size=2), runs_in=tmp_path)


def test_the_flow_is_taught(sounds, tmp_path):
    torch.manual_seed(0)
    check_training("cfm", moved(CfmModule)(), SovitsData(sounds, batch_size=2), runs_in=tmp_path)


def test_adapters_of_the_flow_are_taught_from_chance(sounds, tmp_path):
    """Whole, as check_backend has it: two steps from tiny weights, and every tensor that is trained has a gradient."""
    recipe = {"backend": "gpt_sovits", "stage": "cfm", "data.path": sounds, "trainer.accelerator": "cpu"}
    own = {"data.batch_size": 2, "model.method": "lora", "model.lora_rank": 4, "trainer.max_steps": 2}
    Training(recipe, {"run_dir": tmp_path / "run", **own}).fit()
    check_run("cfm", tmp_path / "run")
    adapters = {name: each for name, each in open_checkpoint(tmp_path / "run").weights().items() if "lora_B" in name}
    assert adapters
    assert all(each.count_nonzero() for each in adapters.values())


def test_a_file_draws_the_codes_of_its_run(codes, tmp_path):
    recipe = {"backend": "gpt_sovits", "stage": "gpt", "data.path": codes, "trainer.accelerator": "cpu"}
    Training(recipe, {"run_dir": tmp_path / "run", "data.max_tokens": 300, "trainer.max_steps": 1}).fit()
    export(tmp_path / "run", format="s1", out=tmp_path / "file")
    check_run("gpt", tmp_path / "run", [tmp_path / "file"])
    (file,) = (tmp_path / "file").glob("*.ckpt")
    content = torch.load(file, weights_only=True)
    content["weight"] = {name: weight.flip(0) for name, weight in content["weight"].items()}
    torch.save(content, file)
    with pytest.raises(AssertionError, match=r"the export file does not say what its run says: .* differ from number"):
        check_run("gpt", tmp_path / "run", [tmp_path / "file"])
