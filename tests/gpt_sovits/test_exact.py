"""A step of each stage uses no operator whose result CUDA does not repeat, and what stands in has torch's values."""

from __future__ import annotations

import re
from pathlib import Path

import lightning
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import tts_train_gpt_sovits
from tests.gpt_sovits.exact_operators import ExactOperators
from tts_train.nn.devices import planning_for
from tts_train.nn.reproducible import deterministic_kernels
from tts_train.training.survive.continuation import ExactContinuation
from tts_train_gpt_sovits.networks.gpt.attention import PaddedRows, attend_grid, attend_spans
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.signal import frames as masked_attention
from tts_train_gpt_sovits.signal.frames import additive_mask, attend, reflect
from tts_train_gpt_sovits.signal.mel import spectrogram
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.module import SovitsModule

PAIRS = GptData("nowhere", pairs="made")
CLIPS = SovitsData("nowhere", max_seconds=1.0)
WITH_FEATURES = SovitsData("nowhere", max_seconds=1.0, features=True)
STAGES = {
    "gpt": (GptModule, {}, GptData("nowhere"), 480),
    "gpt, upstream": (GptModule, {"padding": "upstream"}, GptData("nowhere"), 480),
    "gpt, checkpointed": (GptModule, {"gradient_checkpointing": True}, GptData("nowhere"), 480),
    "dpo": (DpoModule, {"reference": "start"}, PAIRS, 480),
    "dpo, lora": (DpoModule, {"reference": "start", "method": "lora"}, PAIRS, 480),
    "sovits": (SovitsModule, {}, CLIPS, 2),
    "sovits, v2Pro": (SovitsModule, {"version": "v2Pro"}, CLIPS, 2),
    "sovits, trained quantizer": (SovitsModule, {"freeze_quantizer": False}, WITH_FEATURES, 2),
    "cfm, lora": (CfmModule, {}, CLIPS, 2),
    "cfm, v3, full": (CfmModule, {"method": "full", "version": "v3"}, CLIPS, 2),
}


class Watched(lightning.Callback):
    """Turns a mode on from the second batch on: in the first one, tables are made and states begin."""

    def __init__(self, mode) -> None:
        self.mode = mode
        self.batches = 0
        self._on = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1:
            self.mode.__enter__()
            self._on = True

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += batch_idx > 0

    def on_train_end(self, trainer, pl_module):
        self._leave()

    def on_exception(self, trainer, pl_module, exception):
        self._leave()  # else the mode would stay on for every later test of the process

    def _leave(self):
        if self._on:
            self._on = False
            self.mode.__exit__(None, None, None)


def train(stage, *callbacks, batches=3):
    """Train as on CUDA: where a device is asked for by code, the answer is CUDA, and tensors are real and on a CPU."""
    build, options, data, size = STAGES[stage]
    torch.manual_seed(0)
    batch = data.sample_batch(size)
    if "wave" in batch:
        torch.manual_seed(0)
        batch["wave"] = torch.randint(-9000, 9000, batch["wave"].shape, dtype=torch.int16)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=batches,
        logger=False,
        callbacks=[ExactContinuation(0), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = build(**options)
    loader = DataLoader([batch] * batches, batch_size=None, collate_fn=lambda one: one)
    with planning_for("cuda"):
        trainer.fit(module, train_dataloaders=loader)
    return module


LONGER = {"gpt, upstream", "gpt, checkpointed", "dpo, lora", "sovits, trained quantizer", "cfm, v3, full"}
"""Variants of what the quick tier tries."""


@pytest.mark.parametrize(
    "stage", [pytest.param(each, marks=pytest.mark.slow) if each in LONGER else each for each in STAGES]
)
def test_a_step_uses_no_operator_that_cuda_does_not_repeat(stage):
    watched = Watched(ExactOperators())
    train(stage, watched)
    assert watched.batches == 2
    assert watched.mode.seen & {"convolution_backward", "embedding_dense_backward", "_log_softmax_backward_data"}


def test_such_operators_are_refused():
    x = torch.randn(2, 3, 8, requires_grad=True)
    made = {
        "reflect": F.pad(x, (2, 2), mode="reflect"),
        "select": x.index_select(0, torch.tensor([0, 0])),
        "gather": x.gather(2, torch.zeros(2, 3, 4, dtype=torch.long)),
        "overlapping": x[0].as_strided((3, 3, 4), (8, 2, 1)),
    }
    for each in made.values():
        with pytest.raises(AssertionError, match="not repeated by CUDA"), ExactOperators():
            each.sum().backward()
    with pytest.raises(AssertionError, match="cumsum"), ExactOperators():
        x.detach().cumsum(0)
    with pytest.raises(AssertionError, match="convolution"), ExactOperators():
        F.conv1d(x.detach(), torch.ones(3, 3, 1))
    with ExactOperators(), deterministic_kernels():
        made["select"].detach().index_add(0, torch.tensor([1, 1]), torch.ones(2, 3, 8))


@pytest.mark.parametrize(("before", "after"), [(0, 3), (4, 4), (9, 9), (0, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges_are_mirrored_as_torch_does(before, after, dtype):
    x = torch.randn(2, 3, 10, dtype=dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    made, wanted = reflect(ours, before, after), F.pad(theirs, (before, after), mode="reflect")
    assert torch.equal(made, wanted)
    weights = torch.randn_like(wanted)
    for each in (made, wanted):
        (each * weights).sum().backward()
    if before + after < 10:  # to the last bit, unless three numbers are added, which they are in another order
        assert torch.equal(ours.grad, theirs.grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)


def test_too_short_a_sound_cannot_be_mirrored():
    with pytest.raises(ValueError, match="10 frames cannot be mirrored"):
        reflect(torch.zeros(1, 10), 0, 10)


def test_a_spectrogram_is_torchs_to_the_last_bit_and_so_is_its_gradient():
    wave = torch.randn(2, 6400)
    ours, theirs = wave.clone().requires_grad_(), wave.clone().requires_grad_()
    made = spectrogram(ours)
    padded = F.pad(theirs[:, None], (704, 704), mode="reflect")[:, 0]
    window = torch.hann_window(2048)
    bins = torch.stft(padded, 2048, 640, window=window, center=False, return_complex=True)
    wanted = (bins.real.square() + bins.imag.square() + 1e-8).sqrt()
    assert torch.equal(made, wanted)
    weights = torch.randn_like(wanted)
    for each in (made, wanted):
        (each * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def pairs():
    chance = torch.Generator().manual_seed(0)

    def codes(count):
        return torch.randint(1024, (count,), generator=chance)

    rows = []
    for x, y, z in ((2, 5, 3), (3, 4, 6), (7, 2, 2)):
        start = codes(y)
        rows.append(GptUtterance(phonemes=codes(x), codes=start, rejected=torch.cat([start[:2], codes(z)])))
    return pack(rows)


def test_the_grid_has_the_gradients_of_the_spans():
    batch = pairs()
    whole = torch.randn(batch["spans"][-1].end, 3, 2, 4, dtype=torch.float64)
    results = []
    for grid in (True, False):
        given = [each.requires_grad_() for each in whole.clone().unbind(1)]
        if grid:
            done = attend_grid(*given, PaddedRows(batch["grid"], given[0]))
        else:
            done = attend_spans(*given, batch["spans"])
        (done * torch.linspace(-1, 1, 8, dtype=torch.float64)).square().sum().backward()
        results.append([done.detach(), *(each.grad for each in given)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("keys", [7, 8, 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_is_made_once_and_needs_no_copy(keys, dtype):
    seen = torch.rand(2, 1, 5, keys) > 0.4
    seen[..., 0] = True
    states = torch.randn(2, 3, 5, 8, dtype=dtype)
    mask = additive_mask(seen, states)
    assert mask.shape == seen.shape
    assert mask.dtype == dtype
    assert all(step % 8 == 0 for step in mask.stride()[:-1]), mask.stride()
    assert mask.stride(-1) == 1
    other = torch.randn(2, 3, keys, 8, dtype=dtype)
    wanted = F.scaled_dot_product_attention(states, other, other, attn_mask=seen)
    assert torch.equal(attend(states, other, other, mask), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert additive_mask(seen, states.float()).dtype == torch.bfloat16
        assert additive_mask(seen, states.double()).dtype == torch.float64


def test_only_gradient_free_or_masked_attention_is_asked_for():
    """Every attention that is trained on a GPU goes through the one function that makes its backward pass exact."""
    folder = Path(tts_train_gpt_sovits.__file__).parent
    asked = {
        file.relative_to(folder).as_posix(): len(re.findall(r"scaled_dot_product_attention\(", file.read_text()))
        for file in folder.rglob("*.py")
    }
    # Spans are a CPU's, generation has no gradients, and feature networks are run without.
    assert {name for name, count in asked.items() if count} <= {
        "signal/frames.py",
        "networks/gpt/attention.py",
        "networks/gpt/generate.py",
    }
    by_name = [file for file in folder.rglob("*.py") if "import scaled_dot_product" in file.read_text()]
    assert not by_name


class _OnCpu:
    """The operators of the memory-efficient kernel, computed plainly, noting whether they are told to be exact."""

    def __init__(self) -> None:
        self.exact: list[bool] = []

    def _scaled_dot_product_efficient_attention(self, query, key, value, mask, sums, dropout, causal, *, scale):
        assert (sums, dropout, causal) == (True, 0.0, False)
        done = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        none = query.new_zeros(())
        return done, none, none, none

    def _scaled_dot_product_efficient_attention_backward(
        self, grad, query, key, value, mask, out, sums, seed, offset, dropout, wanted, causal, *, scale
    ):
        self.exact.append(torch.are_deterministic_algorithms_enabled())
        assert wanted[3] is False
        with torch.enable_grad():
            given = [each.detach().requires_grad_() for each in (query, key, value)]
            done = F.scaled_dot_product_attention(*given, attn_mask=mask, scale=scale)
            moves = torch.autograd.grad(done, given, grad)
        return *(move if asked else None for move, asked in zip(moves, wanted, strict=False)), None


def test_the_kernel_of_cuda_goes_backward_exactly(monkeypatch):
    """What the function hands from forward to backward, with the kernel's arithmetic done by a CPU's."""
    kernel = _OnCpu()
    monkeypatch.setattr(masked_attention, "_aten", kernel)
    query, key, value = (torch.randn(2, 3, n, 8, dtype=torch.float64, requires_grad=True) for n in (5, 7, 7))
    mask = additive_mask(torch.rand(2, 1, 5, 7) > 0.2, query)
    for scale in (None, 0.3):
        got = masked_attention._Efficient.apply(query, key, value, mask.expand(2, 3, 5, 7), 0.0, scale)
        wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        weights = torch.randn_like(wanted)
        ours, theirs = (torch.autograd.grad(each, (query, key, value), weights) for each in (got, wanted))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
    frozen = masked_attention._Efficient.apply(query, key.detach(), value, mask.expand(2, 3, 5, 7), 0.0, None)
    frozen.sum().backward()
    assert key.grad is None
    assert query.grad is not None
    assert kernel.exact == [True, True, True]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_on_a_gpu_is_torchs_and_its_gradients_repeat(dtype):
    torch.manual_seed(0)
    shape = (4, 16, 700, 32)
    given = [torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
    mask = additive_mask(torch.rand(4, 1, 700, 700, device="cuda") > 0.1, given[0])
    weights = torch.randn(shape, device="cuda", dtype=dtype)
    results = [torch.autograd.grad(attend(*given, mask), given, weights) for _ in range(3)]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    wide = [each.detach().double().requires_grad_() for each in given]
    wanted = torch.autograd.grad(F.scaled_dot_product_attention(*wide, attn_mask=mask.double()), wide, weights.double())
    close = 2e-2 if dtype == torch.bfloat16 else 1e-4
    for one, other in zip(results[0], wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=close, atol=close)


@pytest.mark.gpu
@pytest.mark.parametrize("stage", STAGES)
def test_a_step_on_a_gpu_repeats(stage):
    build, options, data, size = STAGES[stage]
    batch = data.sample_batch(size)
    if "wave" in batch:
        batch["wave"] = torch.randint(-9000, 9000, batch["wave"].shape, dtype=torch.int16)
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        trainer = lightning.Trainer(
            accelerator="cuda",
            devices=1,
            max_steps=4,
            logger=False,
            callbacks=[ExactContinuation(0)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = build(**options)
        trainer.fit(module, DataLoader([batch] * 4, batch_size=None, collate_fn=lambda one: one))
        ends.append({name: value.cpu() for name, value in module.state_dict().items()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
