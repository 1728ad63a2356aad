"""Flow matching: what the prompt and padding may change, what stays frozen, and sampling."""

from __future__ import annotations

import re

import pytest
import torch

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.networks.sovits.cfm import FlowMatching, FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.dit import Estimator, rotate
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.starts.sovits_base import TinySovitsOptions

MELS, CONTENT = 100, 512


def estimator(content=CONTENT):
    torch.manual_seed(0)
    made = Estimator(
        width=32, depth=2, heads=2, head_width=8, content=content, content_blocks=1, mels=MELS, dropout=0.0
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return {
        "mel": torch.randn(2, MELS, 20),
        "lengths": torch.tensor([20, 13]),
        "prompt_lengths": torch.tensor([6, 4]),
        "content": torch.randn(2, 16, 20),
        "time": torch.tensor([0.2, 0.7]),
        "noise": torch.randn(2, MELS, 20),
    }


@pytest.mark.parametrize("steps", [None, torch.tensor([3, 7])])
def test_padded_mel_frames_change_no_loss(batch, steps):
    matching = FlowMatching(estimator(16))
    # The released estimator's convolutions see padding; attention and loss do not.
    for layer in matching.estimator.position.layers:
        torch.nn.init.zeros_(layer.weight)
    expected = matching(**batch, steps=steps)
    batch["mel"][1, :, 13:] = 99.0
    torch.testing.assert_close(matching(**batch, steps=steps), expected)


def test_noise_under_the_prompt_changes_no_loss(batch):
    matching = FlowMatching(estimator(16))
    expected = matching(**batch)
    batch["noise"][0, :, :6] = 99.0
    torch.testing.assert_close(matching(**batch), expected)
    batch["noise"][0, :, 6] = 99.0
    assert (matching(**batch) - expected).abs() > 1.0


def test_the_longer_step_is_taught_by_two_shorter(batch):
    matching = FlowMatching(estimator(16))
    steps = torch.tensor([2, 2])
    matching(**batch, steps=steps).backward()
    taught = matching.estimator.step.layers[0].weight.grad.clone()
    assert taught.abs().max() > 0
    assert not torch.equal(matching(**batch, steps=steps), matching(**batch))


def test_a_fresh_estimator_says_nothing():
    made = Estimator(width=32, depth=1, heads=2, head_width=8, content=16, content_blocks=1)
    noisy, content = torch.randn(1, MELS, 9), torch.randn(1, 16, 9)
    mask, time = torch.ones(1, 9, dtype=torch.bool), torch.zeros(1)
    assert not made(noisy, noisy, mask, time, time, content).any()


def test_sampling_is_euler_steps_and_keeps_the_prompt_silent(batch):
    matching = FlowMatching(estimator(16))
    content, prompt = batch["content"][:1], batch["mel"][:1, :, :6]
    noise, lengths = batch["noise"][:1], torch.tensor([20])
    made = matching.sample(content, lengths, prompt, steps=1, noise=noise)
    given = torch.nn.functional.pad(prompt, (0, 14))
    start = noise.clone()
    start[..., :6] = 0.0
    mask = torch.ones(1, 20, dtype=torch.bool)
    with torch.no_grad():
        velocity = matching.estimator(start, given, mask, torch.zeros(1), torch.ones(1), content)
    torch.testing.assert_close(made[..., 6:], (start + velocity)[..., 6:])
    assert not made[..., :6].any()
    guided = matching.sample(content, lengths, prompt, steps=1, noise=noise, guidance=1.0)
    assert not torch.equal(guided, made)


def test_sampling_is_repeatable(batch):
    matching = FlowMatching(estimator(16))
    arguments = (batch["content"], batch["lengths"], batch["mel"][..., :3])
    one, same, other = (
        matching.sample(*arguments, steps=2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_turning_keeps_lengths_and_leaves_the_rest():
    x, angles = torch.randn(1, 5, 12), torch.randn(5, 4)
    turned = rotate(x, angles)
    assert torch.equal(turned[..., 8:], x[..., 8:])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(turned, -angles), x)


@pytest.fixture(scope="module")
def network():
    return FlowSovitsNetwork(mel_per_feature=1.875, symbols=12, hidden=16, layers=2, estimator=estimator())


def test_the_network_learns_outside_its_frozen_parts(network):
    assert not network.content_encoder.training  # as it is made, which is how Lightning trains it
    network.train()
    frames, mels = 16, 30
    loss = network(
        torch.randn(1, 768, frames),
        torch.rand(1, 1025, frames),
        torch.randn(1, MELS, mels),
        torch.tensor([frames]),
        torch.tensor([mels]),
        torch.randint(0, 12, (1, 5)),
        torch.tensor([5]),
        prompt_lengths=torch.tensor([8]),
    )
    loss.sum().backward()
    assert loss.shape == (1,)
    assert torch.isfinite(loss)
    learning = {name.split(".")[0] for name, each in network.named_parameters() if each.grad is not None}
    # The style reaches the loss through frozen or detached paths only, as in the released training.
    assert learning == {"bridge", "refine", "matching"}
    assert not network.quantizer.training
    assert not network.content_encoder.training


def test_content_has_the_frames_of_the_mel(network):
    style = torch.zeros(1, CONTENT, 1)
    with torch.no_grad():
        content = network.content(torch.randint(0, 1024, (1, 9)), torch.randint(0, 12, (1, 4)), style)
    assert content.shape == (1, CONTENT, int(18 * 1.875))


@pytest.mark.parametrize(("method", "kept"), [("lora", "lora_A"), ("full", "bridge")])
def test_a_checkpoint_that_lacks_a_weight_is_refused_by_name(method, kept):
    module = CfmModule(method=method, tiny=TinySovitsOptions())
    module.configure_model()
    checkpoint = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    lost = next(name for name in checkpoint["state_dict"] if kept in name)
    state = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name != lost}
    with pytest.raises(ConfigError, match=rf"1 missing \(the first is {re.escape(lost)}\)"):
        module.on_load_checkpoint({"state_dict": state})
    with pytest.raises(ConfigError, match=r"1 unknown \(the first is network\.other\)"):
        module.on_load_checkpoint({"state_dict": {**checkpoint["state_dict"], "network.other": torch.zeros(1)}})
