"""Training checkpoints of upstream's are read with everything that continuing needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.gpt_sovits.file_samples import SMALL_GPT, gpt_config, save, seeded, shrunk
from tts_train.errors import DataError
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.released import read_training
from tts_train_gpt_sovits.released.shapes import critic_shapes, generator_shapes, gpt_shapes, lora_shapes
from tts_train_gpt_sovits.stages.gpt.optimizer import ScaledAdam


def adamw_state(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """State of a real optimizer after a step on these tensors."""
    parameters = [nn.Parameter(tensor.clone()) for tensor in list(weights.values())[:40]]
    optimizer = torch.optim.AdamW([{"params": parameters[:30]}, {"params": parameters[30:], "lr": 4e-5}], lr=1e-4)
    torch.stack([parameter.square().sum() for parameter in parameters]).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def assert_state(ours, theirs):
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for number, entry in theirs["state"].items():
        for name, value in entry.items():
            assert torch.equal(torch.as_tensor(ours["state"][number][name]), torch.as_tensor(value)), (number, name)


@pytest.mark.parametrize(
    ("file", "shapes", "kind"),
    [("G_480.pth", generator_shapes, "s2G_training"), ("D_480.pth", critic_shapes, "s2D_training")],
)
@pytest.mark.parametrize("version", ["v1", "v2Pro"])
def test_both_networks_of_stage_two(tmp_path, file, shapes, kind, version):
    expected = shrunk(shapes(version))
    weights = seeded(expected)
    state = adamw_state(weights)
    content = {"model": weights, "iteration": 8, "optimizer": state, "learning_rate": 1e-4}
    path = save(tmp_path / f"logs_s2_{version}" / file, content)
    read = read_training(path, shapes=expected)
    assert (read.recognised.kind, read.recognised.version) == (kind, version)
    assert (read.epochs, read.learning_rate) == (8, 1e-4)
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in weights.items())
    assert_state(read.optimizer, state)


def test_a_lora_checkpoint(tmp_path):
    expected = {n: tuple(min(k, 2) for k in shape) for n, shape in lora_shapes("v4", 2, exported=False).items()}
    content = {"model": seeded(expected), "iteration": 2, "optimizer": {}, "learning_rate": 1e-4}
    read = read_training(save(tmp_path / "logs_s2_v4_lora_2" / "G_9.pth", content), shapes=expected)
    assert (read.recognised.version, read.recognised.rank) == ("v4", 2)


def stage_one(**changes: object) -> dict[str, object]:
    network = GptNetwork(SMALL_GPT)
    optimizer = ScaledAdam(network.parameters(), lr=0.01)
    torch.stack([parameter.square().sum() for parameter in network.parameters()]).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "global_step": 96,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": seeded(gpt_shapes(SMALL_GPT)),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'top_3_acc'}": {"best_model_score": None, "dirpath": "x"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"init_lr": 1e-5, "_current_step": 96, "lr": 0.002, "_last_lr": [0.002]}],
        "MixedPrecision": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 12},
        "hparams_name": "kwargs",
        "hyper_parameters": {"config": gpt_config(), "output_dir": Path("/logs/voice"), "is_train": True},
        **changes,
    }


def test_stage_one_with_its_path_objects(tmp_path):
    content = stage_one()
    read = read_training(save(tmp_path / "epoch=3-step=96.ckpt", content))
    assert (read.recognised.kind, read.epochs, read.step) == ("s1_training", 4, 96)
    assert read.schedule["_current_step"] == 96
    assert read.scaler == content["MixedPrecision"]
    assert read.config == gpt_config()
    assert_state(read.optimizer, content["optimizer_states"][0])


def test_what_continuing_lacks_is_named(tmp_path):
    path = save(tmp_path / "a.ckpt", stage_one(optimizer_states=[]))
    with pytest.raises(DataError, match="lacks what continuing needs"):
        read_training(path)
    expected = shrunk(generator_shapes("v2"))
    path = save(tmp_path / "G_1.pth", {"model": seeded(expected), "iteration": 1})
    with pytest.raises(DataError, match="'optimizer'"):
        read_training(path, shapes=expected)
    with pytest.raises(DataError, match="a training checkpoint is wanted"):
        read_training(save(tmp_path / "b.pth", {"weight": seeded(expected)}))
