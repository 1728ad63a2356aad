"""The ways to need less memory on the tiny base: same losses and gradients, training as the recipes do, refusals."""

from __future__ import annotations

import lightning
import pytest
import torch

from tests.orpheus.batches import packed, rows
from tests.orpheus.family import OrpheusNetwork, load_base
from tests.orpheus.test_module import Data, module
from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.optim import OptimizerOptions

LAYERS = 4
RECIPES = {
    "lm-full-16gb": OptimizerOptions("adamw8bit", lr=5e-3, in_backward=True, rounding="stochastic"),
    "lm-full-12gb": OptimizerOptions("adamw8bit", lr=5e-3, in_backward=True, rounding="stochastic", offload=True),
    "lm-full-40gb": OptimizerOptions("adamw", lr=5e-3, in_backward=True, rounding="stochastic"),
}


def network():
    return OrpheusNetwork(load_base("tiny", tiny=TinyOptions(layers=LAYERS)), HeadOptions(chunk_tokens=64)).train()


@pytest.fixture(scope="module")
def expected():
    net = network()
    output = net(packed(rows()))
    output.loss.backward()
    return output.loss.item(), {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("share", [None, 0.5, 1.0])
@pytest.mark.parametrize("offload", [False, True])
def test_what_backward_needs_may_be_made_again_or_brought_back(expected, share, offload):
    net = network()
    if share is not None:
        net.enable_checkpointing(share)
        assert sum(layer.gradient_checkpointing for layer in net.lm.model.layers) == LAYERS * share
    net.offload_activations = offload
    output = net(packed(rows()))
    output.loss.backward()
    assert output.loss.item() == expected[0]
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter.grad, expected[1][name]), name


def test_a_base_of_files_recomputes_too(tmp_path):
    load_base("tiny", tiny=TinyOptions(layers=LAYERS)).save_pretrained(tmp_path)
    kept = []
    for share in (None, 1.0):
        # In the mode that it comes in, as fit leaves it there.
        net = OrpheusNetwork(load_base(str(tmp_path)), HeadOptions(chunk_tokens=64))
        if share:
            net.enable_checkpointing(share)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda kept, to=sizes: to.append(kept.nbytes) or kept, lambda it: it
        ):
            net(packed(rows()))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.slow
def test_the_recipes_ways_train_and_continue(tmp_path, recipe):
    def made():
        return module(optimizer=RECIPES[recipe], gradient_checkpointing=True)

    def run(steps):
        return lightning.Trainer(
            accelerator="cpu",
            precision="bf16-true",
            max_steps=steps,
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )

    through, run_through = made(), run(4)
    before = run_through.validate(through, datamodule=Data(), verbose=False)[0]["val/loss"]
    run_through.fit(through, datamodule=Data())
    assert run_through.callback_metrics["val/loss"].item() < before - 0.02
    half = run(2)
    half.fit(made(), datamodule=Data())
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = made()
    run(4).fit(resumed, datamodule=Data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for (name, one), other in zip(through.network.named_parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("given", [{"checkpoint_share": 0.0}, {"checkpoint_share": 1.5}, {"checkpoint_share": 0.5}])
def test_a_share_is_of_layers_that_are_checkpointed(given):
    with pytest.raises(ConfigError, match=r"--model\.checkpoint_share.*gradient_checkpointing true"):
        module(gradient_checkpointing=given["checkpoint_share"] != 0.5, **given)
