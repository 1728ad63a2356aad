"""What a run of the stage sovits starts from: files of every kind, our own runs, and what must be refused."""

from __future__ import annotations

import pytest
import torch

from tests.core.run.toy import run
from tests.gpt_sovits.sovits_rows import write_rows
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.features.semantic import SemanticTokens, quantizer_fingerprint
from tts_train_gpt_sovits.released import s2_config, write_critics, write_full, write_s2
from tts_train_gpt_sovits.released.shapes import shapes_of
from tts_train_gpt_sovits.released.sovits_names import to_upstream
from tts_train_gpt_sovits.signal.mel import GAN_MEL, V3_MEL, V4_MEL, log_mel, normalise, spectrogram
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule, target_mel
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.optimizer import adamw, parameter_groups
from tts_train_gpt_sovits.starts.adapters import trained_names
from tts_train_gpt_sovits.starts.sovits_base import optimizer_state
from tts_train_gpt_sovits.starts.sovits_restore import critics_for, load_critics, load_generator, load_run


@pytest.fixture(scope="module")
def tiny():
    return load_generator("tiny")


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    """A whole file and one for inference, of tiny sizes."""
    folder = tmp_path_factory.mktemp("files")
    config = {**s2_config("v2"), "model": dict(tiny.sizes)}
    about = {"version": "v2", "config": config, "info": "test", "shapes": shapes_of(tiny.network)}
    write_full(folder / "full.pth", to_upstream(tiny.network), **about, dtype=torch.float32)
    write_s2(folder / "voice.pth", to_upstream(tiny.network), **about)
    return folder


def test_tiny_is_the_same_every_time_and_makes_the_tiny_tokens(tiny):
    again = load_generator("tiny").network.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in tiny.network.state_dict().items())
    assert quantizer_fingerprint(to_upstream(tiny.network)) == SemanticTokens.load("tiny").fingerprint


def test_a_whole_file_says_its_sizes_and_is_loaded(tiny, files):
    loaded = load_generator(str(files / "full.pth"))
    assert loaded.version == "v2"
    assert loaded.sizes["hidden_channels"] == 16
    state = loaded.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny.network.state_dict().items())
    with pytest.raises(ConfigError, match="Leave --model"):
        load_generator(str(files / "full.pth"), version="v1")


def test_a_file_for_inference_needs_a_lender(tiny, files):
    voice = str(files / "voice.pth")
    with pytest.raises(ConfigError, match="base_for_missing v2"):
        load_generator(voice)
    with pytest.raises(ConfigError, match="must be a whole file"):
        load_generator(voice, base_for_missing=voice)
    state = load_generator(voice, base_for_missing=str(files / "full.pth")).network.state_dict()
    for name, tensor in tiny.network.state_dict().items():
        lent = name.startswith("posterior_encoder.")
        assert torch.equal(state[name], tensor if lent else tensor.half().float()), name


def test_the_optimiser_of_a_training_file_goes_on(tiny):
    first, second = (adamw(parameter_groups(tiny.network, lr=rate), lr=rate) for rate in (1e-3, 1e-4))
    for group in first.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    first.step()
    optimizer_state(second, first.state_dict(), source="G_8.pth")
    moved = second.param_groups[0]["params"][0]
    assert torch.equal(second.state[moved]["exp_avg"], first.state[moved]["exp_avg"])
    assert [group["lr"] for group in second.param_groups] == pytest.approx([1e-4, *[4e-5] * 3])
    other = {"state": {}, "param_groups": first.state_dict()["param_groups"][:1]}
    with pytest.raises(DataError, match=r"G_8\.pth"):
        optimizer_state(second, other, source="G_8.pth")


def test_critics_go_with_their_generator(tmp_path):
    for name in ("G_8.pth", "D_8.pth"):
        (tmp_path / name).touch()
    assert critics_for(str(tmp_path / "G_8.pth"), "v2") == str(tmp_path / "D_8.pth")
    assert critics_for(str(tmp_path / "G_9.pth"), "v2Pro") == "v2Pro"
    assert critics_for("tiny", "v2") == "tiny"
    assert len(load_critics("fresh", version="v2Pro", shrink=16).network.critics) == 8


@pytest.mark.slow
def test_released_sizes_of_critics_are_read(tmp_path):
    critics = load_critics("fresh", version="v2").network
    write_critics(tmp_path / "s2D.pth", to_upstream(critics), version="v2", info="", dtype=torch.float32)
    loaded = load_critics(str(tmp_path / "s2D.pth"), version="v2").network
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), critics.parameters(), strict=True))


@pytest.mark.slow
def test_training_files_of_upstream_are_continued(tmp_path):
    for source, load, name in (("v2", load_generator, "G_8.pth"), ("v2", load_critics, "D_8.pth")):
        network = load_critics("fresh", version=source).network if name[0] == "D" else _released(source)
        groups = parameter_groups(network, lr=1e-4) if name[0] == "G" else list(network.parameters())
        optimizer = adamw(groups, lr=1e-4)
        content = {"model": to_upstream(network), "iteration": 3, "optimizer": optimizer.state_dict()}
        torch.save({**content, "learning_rate": 1e-4}, tmp_path / name)
        loaded = load(str(tmp_path / name), version=source)
        assert loaded.optimizer["param_groups"]
        if name[0] == "G":
            assert loaded.epochs == 3


def _released(version):
    from tts_train_gpt_sovits.networks.sovits.build import build_network

    return build_network(version)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A run of 3 steps of flow matching with adapters, interrupted after 2."""
    folder = tmp_path_factory.mktemp("cfm")
    rows = write_rows(folder / "rows", count=6)
    modules = []
    for name, steps in (("whole", 3), ("parts", 2), ("parts", 3)):
        module = CfmModule(lora_rank=4, gradient_checkpointing=True)
        data = SovitsData(rows, batch_size=2, val_share=0.2, max_seconds=20.0)
        run(
            folder / name,
            module=module,
            data=data,
            every=2,
            keep=3,
            max_epochs=-1,
            max_steps=steps,
            val_check_interval=1.0,
        )
        modules.append(module)
    return folder, modules


def test_flow_matching_trains_and_continues(adapted):
    _, modules = adapted
    whole, again = modules[0].network.state_dict(), modules[2].network.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    assert modules[0].trainer.callback_metrics["val/loss"] > 0
    moments = modules[0].trainer.optimizers[0].state
    moved = {name for name, each in modules[0].network.named_parameters() if each in moments}
    assert moved <= set(trained_names(modules[0].network))
    assert any("lora_B" in name for name in moved)


def test_adapters_come_back_beside_or_in_the_base(adapted):
    folder, modules = adapted
    kept = load_run(folder / "whole", merged=False)
    assert (kept.version, kept.lora_rank) == ("v4", 4)
    state = kept.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in modules[0].network.state_dict().items())
    merged = load_generator(str(folder / "whole")).network
    content, text, style = torch.randint(0, 1024, (1, 9)), torch.randint(0, 300, (1, 4)), torch.zeros(1, 512, 1)
    spoken = []
    for network in (kept.network.eval(), merged.eval()):
        with torch.no_grad():
            content_frames = network.content(content, text, style)
            lengths, prompt = torch.tensor([content_frames.shape[2]]), torch.zeros(1, 100, 2)
            noise = torch.randn(1, 100, content_frames.shape[2], generator=torch.Generator().manual_seed(0))
            spoken.append(network.matching.sample(content_frames, lengths, prompt, steps=2, noise=noise))
    torch.testing.assert_close(*spoken, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [V3_MEL, V4_MEL], ids=["v3", "v4"])
def test_the_target_has_the_frames_of_the_content(settings):
    wave = torch.randn(2, 40 * 640) * 0.1
    mel, counts = target_mel(wave, torch.tensor([40, 30]), settings)
    per_frame = 1.875 if settings is V3_MEL else 2.0
    assert counts.tolist() == [int(40 * per_frame), int(30 * per_frame)]
    assert mel.shape == (2, 100, int(40 * per_frame))
    assert not mel[1, :, counts[1] :].any()
    if settings.sample_rate == GAN_MEL.sample_rate:
        alone = normalise(log_mel(spectrogram(wave[1:, : 30 * 640], settings), settings))
        torch.testing.assert_close(mel[1:, :, : counts[1]], alone)


def test_adversarial_versions_are_not_matched(tmp_path):
    module = CfmModule(version="v2")
    with pytest.raises(ConfigError, match="--stage sovits"):
        module.configure_model()
