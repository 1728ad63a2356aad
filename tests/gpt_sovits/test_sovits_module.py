"""The stage sovits trains, counts the generator's steps, continues bit for bit, and steps as upstream does."""

from __future__ import annotations

import json

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision

from tests.core.run.toy import digest, run
from tests.gpt_sovits.sovits_rows import write_rows
from tts_train.checkpoints.folder_io import load_state
from tts_train.errors import ConfigError, NumericError
from tts_train.run.directory import RunDirectory
from tts_train.training.survive.continuation import seed_everything, seed_for
from tts_train.training.survive.finite import FiniteGuard
from tts_train_gpt_sovits.networks.sovits.adversarial import (
    adversarial_loss,
    critic_loss,
    feature_loss,
    kl_loss,
    mel_loss,
)
from tts_train_gpt_sovits.signal.mel import log_mel, wave_log_mel
from tts_train_gpt_sovits.stages.sovits.batch import join, magnitudes, samples, wave_slices
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.module import SovitsModule
from tts_train_gpt_sovits.starts.sovits_restore import load_generator, load_run


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


def fit(path, rows, steps, *, every=1, inject=None, val_share=0.0, **model):
    return run(
        path,
        module=SovitsModule(**model),
        data=SovitsData(rows, batch_size=2, val_share=val_share, seed=3),
        every=every,
        inject=inject,
        max_epochs=-1,
        max_steps=steps,
        gradient_clip_val=None,
        limit_train_batches=3,
    )


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    """A run of 4 steps, 3 in its first epoch."""
    path = tmp_path_factory.mktemp("whole")
    module = fit(path, rows, 4, every=2, val_share=0.2)
    return path, module


def test_a_step_is_one_of_the_generator(whole):
    path, module = whole
    assert module.trainer.global_step == 4
    assert RunDirectory(path).steps() == [2, 3, 4]  # the third is the best
    states = load_state(RunDirectory(path).step_path(4), "optimizer_states")["optimizer_states"]
    assert [float(next(iter(state["state"].values()))["step"]) for state in states] == [4.0, 4.0]


def test_a_run_continues_bit_for_bit(whole, rows, tmp_path):
    path, _ = whole
    fit(tmp_path, rows, 2, every=2, val_share=0.2)
    fit(tmp_path, rows, 4, every=2, val_share=0.2)
    for step in (2, 3, 4):
        assert digest(RunDirectory(tmp_path).step_path(step)) == digest(RunDirectory(path).step_path(step)), step


def test_rates_fall_by_the_epoch_and_the_text_learns_slower(whole):
    path, _ = whole
    for step, factor in ((2, 1), (4, 2)):
        states = load_state(RunDirectory(path).step_path(step), "optimizer_states")["optimizer_states"]
        generator, critics = ([group["lr"] for group in state["param_groups"]] for state in states)
        rate = 1e-4 * 0.999875**factor
        assert generator == pytest.approx([rate, *[0.4 * rate] * 3], rel=1e-12)
        assert critics == pytest.approx([rate], rel=1e-12)


def test_validation_is_logged(whole):
    _, module = whole
    figures = module.trainer.callback_metrics
    assert figures["val/loss"] > 0
    spoken = [figures[f"val/mel_loss/{language}"] for language in module.trainer.datamodule.val_languages]
    assert min(spoken) <= figures["val/loss"] <= max(spoken)
    parts = {name for name in figures if name.startswith("train/")}
    assert parts == {f"train/{name}" for name in ("loss", "adversarial", "features", "mel", "kl", "critics")}


def test_networks_come_back_from_a_checkpoint(whole):
    path, module = whole
    kept = load_run(path)
    assert (kept.version, kept.step, kept.lora_rank) == ("v2", 4, None)
    for network, trained in ((kept.network, module.network), (kept.critics(), module.critics)):
        state = network.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in trained.state_dict().items())


def test_a_step_is_upstreams(rows, tmp_path):
    """Restated plainly: critics on both halves apart, then a generator step whose loss flows through everything."""
    data = SovitsData(rows, batch_size=2, val_share=0.0, seed=3)
    data.setup("fit")
    batch = join([data.train_set[i] for i in data.train_batches(0)[0]])
    module = fit(tmp_path, rows, 1)
    plain = SovitsModule()
    plain.configure_model()
    network, critics = plain.network.train(), plain.critics.train()
    seed_everything(seed_for(5, "train", 0, 0, 0))
    wave = samples(batch)
    spectrum = magnitudes(wave, batch["frames"])
    text = batch["phonemes"], batch["phoneme_counts"]
    made = network(None, spectrum, batch["frames"], *text, frames=32, codes=batch["codes"])
    real = wave_slices(wave, made.starts, 32)
    rate, settings = 1e-4 * 0.999875, {"betas": (0.8, 0.99), "eps": 1e-9}
    of_critics = torch.optim.AdamW(critics.parameters(), lr=rate, **settings)
    slow = ("text_embedding", "text_encoder", "fusion")
    named = list(network.named_parameters())
    groups = [
        {"params": [p for n, p in named if any(s in n for s in slow)], "lr": 0.4 * rate},
        {"params": [p for n, p in named if not any(s in n for s in slow)]},
    ]
    of_network = torch.optim.AdamW(groups, lr=rate, **settings)
    critic_loss(critics(real), critics(made.audio.detach())).backward()
    of_critics.step()
    of_real, of_made = critics(real), critics(made.audio)
    starts = made.starts.tolist()
    mel = torch.stack([log_mel(spectrum)[i, :, at : at + 32] for i, at in enumerate(starts)])
    total = adversarial_loss(of_made) + feature_loss(of_real, of_made)
    total = total + 45.0 * mel_loss(mel, wave_log_mel(made.audio[:, 0]))
    total = total + kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask)
    total.backward()
    of_network.step()
    assert module.trainer.callback_metrics["train/loss"].item() == pytest.approx(total.item(), rel=1e-5)
    pairs = ((module.network, network, of_network), (module.critics, critics, of_critics))
    for optimizer, (ours, theirs, plainly) in zip(module.trainer.optimizers, pairs, strict=True):
        for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            # The first moments are the gradients' share of them: equal steps have equal ones.
            moments = [each.state[weight].get("exp_avg") for each, weight in ((optimizer, one), (plainly, other))]
            assert (moments[0] is None) == (moments[1] is None) == name.startswith("feature_projection.")
            # A key's bias changes no attention, so its gradient is the rounding of others.
            if moments[0] is not None and not name.endswith("key.bias"):
                close = 1e-3 * moments[1].abs().max().item() + 1e-9
                torch.testing.assert_close(
                    *moments, rtol=1e-3, atol=close, msg=lambda said, name=name: f"{name}: {said}"
                )


def test_gradients_that_are_not_finite_change_nothing(rows, tmp_path, caplog):
    with pytest.raises(NumericError, match="3 steps in a row"):
        fit(tmp_path, rows, 6, inject="nan@step=2,nan@step=3,nan@step=4")
    assert "Step 1 was skipped" in caplog.text
    states = [load_state(RunDirectory(tmp_path).step_path(step), "state_dict")["state_dict"] for step in (1, 2)]
    kept = [name for name in states[0] if torch.equal(states[0][name], states[1][name])]
    # The fault is in the critics' gradients: their step is left out, the generator's is not.
    assert {name for name in states[0] if name.startswith("critics.")} <= set(kept)
    assert len(kept) < len(states[0])
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert all(step["batches"][0]["ids"] for step in report["in_a_row"])


@pytest.mark.parametrize(
    ("model", "trainer"),
    [
        ({"gradient_checkpointing": True, "gradient_clip": 1.0}, {"precision": "bf16-mixed"}),
        ({"version": "v2Pro"}, {}),
        ({"freeze_quantizer": False}, {}),
    ],
    ids=["bf16", "pro", "unfrozen"],
)
def test_other_settings_train(tmp_path, model, trainer):
    rows = write_rows(tmp_path / "rows", count=3, speaker="version" in model, ssl="freeze_quantizer" in model)
    module = SovitsModule(**model)
    data = SovitsData(rows, batch_size=2, val_share=0.0, features="freeze_quantizer" in model)
    run(tmp_path / "run", module=module, data=data, max_epochs=-1, max_steps=1, gradient_clip_val=None, **trainer)
    assert torch.isfinite(module.trainer.callback_metrics["train/loss"])
    assert module.critics.critics[0].output.bias.requires_grad
    if "freeze_quantizer" in model:
        assert "train/commitment" in module.trainer.callback_metrics


def test_a_loss_scale_serves_both_networks(tmp_path):
    """Half precision's overflows leave steps out, lower the scale, and are no fault of the run."""
    rows = write_rows(tmp_path / "rows", count=3)
    module = SovitsModule()
    scale = 2.0**40
    half = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale))
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", plugins=[half], callbacks=[FiniteGuard()], max_steps=1, **settings)
    trainer.fit(module, SovitsData(rows, batch_size=2, val_share=0.0))
    assert half.scaler.get_scale() == scale / 2
    assert trainer.global_step == 1
    start = load_generator("tiny").network.state_dict()
    assert all(torch.equal(start[name], tensor) for name, tensor in module.network.state_dict().items())


def test_blocks_computed_again_give_the_same_gradients():
    made = []
    for again in (False, True):
        module = SovitsModule()
        module.configure_model()
        generator = module.network.generator
        generator.checkpointing = again
        torch.manual_seed(0)
        generator(torch.randn(1, 16, 4), torch.randn(1, 512, 1)).square().sum().backward()
        made.append({name: parameter.grad for name, parameter in generator.named_parameters()})
    assert all(torch.equal(made[0][name], gradient) for name, gradient in made[1].items())


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({"version": "v1"}, {}, "prepared for v1"),
        ({"version": "v2"}, {"version": "v2Pro"}, "no speaker vectors"),
        ({"version": "v2", "quantizer": "0" * 32}, {}, "another quantizer"),
        ({"version": "v2"}, {"freeze_quantizer": False}, "--data.features true"),
        ({"version": "v2"}, {"version": "v4"}, "--stage cfm"),
    ],
    ids=["phonemes", "speaker", "codes", "features", "stage"],
)
def test_data_of_another_kind_is_refused(tmp_path, settings, options, said):
    rows = write_rows(tmp_path / "rows", count=2, settings=settings)
    with pytest.raises(ConfigError, match=said):
        run(
            tmp_path / "run",
            module=SovitsModule(**options),
            data=SovitsData(rows, batch_size=2),
            max_steps=1,
            gradient_clip_val=None,
        )


@pytest.mark.parametrize("given", [{"lr": 0.0}, {"lr_decay": 1.1}, {"c_mel": -1.0}, {"segment_frames": 0}], ids=str)
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(ConfigError, match="--model"):
        SovitsModule(**given)


def test_every_option_is_a_flag():
    parser = ArgumentParser()
    parser.add_class_arguments(SovitsModule, "model")
    parser.add_class_arguments(SovitsData, "data")
    words = ["--model.tiny.channels=8", "--model.gradient_clip=1", "--model.critics_from=fresh", "--data.path=x"]
    parsed = parser.parse_args(words)
    assert (parsed.model.tiny.channels, parsed.model.gradient_clip, parsed.data.batch_size) == (8, 1.0, 8)
