"""The layers over a fixed cache: transformers' logits, whatever is in the layers, and nothing a card would wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.orpheus.family import OrpheusNetwork, decoding_on_shapes, generate, load_base
from tests.orpheus.trained_runs import move
from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.decoder import CachedDecoder, bucket
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, merge
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.nn.devices import planning_for
from tts_train_orpheus import layout
from tts_train_orpheus.model import tiny_config

SIZE = TinyOptions(hidden=96, layers=3, heads=6, kv_heads=2, mlp=128)
LENGTHS = (9, 4, 6)
STEPS = 70
"""More than a cache of 64 places has room for."""


def network(method="full", dtype=torch.float32):
    made = OrpheusNetwork(load_base("tiny", tiny=SIZE, dtype=dtype))
    if method != "full":
        apply_method(made, "lora" if method == "merged" else method, LoraOptions(rank=4), device="cpu")
    move(made)
    if method == "merged":
        merge(made)
    made.lm.set_attn_implementation("sdpa")
    return made.lm.eval()


@torch.no_grad()
def compare(lm, *, tolerance):
    """Feed the same ids to both, the prompts at once and then one by one, and compare the logits of every step."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, layout.VOCAB_SIZE, (len(LENGTHS), max(LENGTHS) + STEPS), generator=generator)
    lengths = torch.tensor(LENGTHS)
    decoder = CachedDecoder(lm, len(LENGTHS), 64)
    prompt = ids[:, : max(LENGTHS)].clone()
    for row, length in enumerate(LENGTHS):
        prompt[row, length:] = layout.PAD
    states = [decoder.read(prompt, lengths)]
    for step in range(STEPS):
        if max(LENGTHS) + step >= decoder.places:
            decoder.grow(2 * decoder.places)
        tokens = ids.gather(1, (lengths + step)[:, None])[:, 0]
        states.append(decoder.step(tokens, lengths + step, span=max(LENGTHS) + step + 1))
    found = torch.stack(states, dim=1)
    for row, length in enumerate(LENGTHS):
        expected = lm.model(ids[row : row + 1, : length + STEPS], use_cache=False).last_hidden_state[0, length - 1 :]
        logits = (states_[None] @ lm.lm_head.weight.T for states_ in (found[row].to(expected), expected))
        ours, theirs = (each.float() for each in logits)
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert error < tolerance, f"row {row}: {error}"


@pytest.mark.parametrize("method", ["full", "lora", "merged"])
def test_logits_are_those_of_transformers(method):
    compare(network(method), tolerance=3e-4)


def test_logits_in_half_precision():
    compare(network(dtype=torch.bfloat16), tolerance=0.05)


@pytest.mark.parametrize("method", ["qlora", "lora-8bit"])
def test_logits_over_a_quantised_base(method):
    pytest.importorskip("bitsandbytes")
    try:
        lm = network(method)
    except ConfigError as error:
        pytest.skip(str(error))
    # Products in 8 bits are scaled by what else is in the batch.
    compare(lm, tolerance=1e-3 if method == "qlora" else 0.05)


def test_logits_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        compare(network("lora"), tolerance=0.05)


def test_caches_grow_by_doubling_up_to_what_can_be_needed():
    assert [bucket(places, 1300) for places in (1, 256, 257, 600, 1100, 1300)] == [256, 256, 512, 1024, 1344, 1344]
    assert bucket(30, 40) == 64


def test_a_larger_cache_and_fewer_rows_change_nothing():
    lm = network()
    prompts = [torch.randint(0, 1000, (n,), generator=torch.Generator().manual_seed(n)).numpy() for n in (250, 7, 40)]
    sampling = Sampling(constrain="slots")
    limits = [21, 60, 9]
    together = generate(lm, prompts, seeds=[1, 2, 3], max_new_tokens=limits, sampling=sampling)
    assert [len(one.ids) for one in together] == limits
    for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
        alone = generate(lm, [prompt], seeds=[number + 1], max_new_tokens=limit, sampling=sampling)
        assert alone[0].ids == together[number].ids


_FUSED = """
import torch
from tests.orpheus import test_decoder as cases
from tts_train.families.token_lm.decoding import decoder
seen = []
step = decoder.CachedDecoder._fused_layers
decoder.CachedDecoder._fused_layers = lambda *given: seen.append(1) or step(*given)
cases.STEPS = 3
cases.compare(cases.network(), tolerance=3e-4)
cases.compare(cases.network(dtype=torch.bfloat16), tolerance=0.05)
assert len(seen) == 2 * (1 + cases.STEPS), seen
"""


@pytest.mark.slow
def test_fused_kernels_give_the_logits_of_transformers():
    """In Triton's interpreter, which has to be asked for before anything is imported."""
    done = subprocess.run(
        [sys.executable, "-c", _FUSED],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr


class Operators(TorchDispatchMode):
    """Names of what runs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function.overloadpacket).removeprefix("aten."))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("constrain", ["none", "audio", "slots"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_step_on_a_card_reads_nothing_and_sums_nothing_up(constrain, dtype):
    """On shapes of a card: reading a value, or a shape that depends on values, raises there."""
    with FakeTensorMode(), planning_for("cuda"), torch.no_grad():
        decoding = decoding_on_shapes(
            tiny_config(SIZE), rows=2, prompt=9, tokens=20, dtype=dtype, sampling=Sampling(constrain=constrain)
        )
        decoding.read()
        with Operators() as operators:
            decoding.advance(span=10)
    seen = set(operators.seen)
    assert ("_flash_attention_forward" in seen) == (dtype == torch.bfloat16)
    assert not {"cumsum", "sort", "_local_scalar_dense", "nonzero", "_scaled_dot_product_cudnn_attention"} & seen
