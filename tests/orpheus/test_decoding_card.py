"""Generation's CUDA graphs on a card: the ids of steps without one, beside other threads, and after one that failed."""

from __future__ import annotations

import threading

import pytest
import torch

from tests.orpheus.family import OrpheusNetwork, generate, load_base
from tests.orpheus.trained_runs import move
from tts_train.families.token_lm.decoding import decoding
from tts_train.families.token_lm.decoding.decoder import SMALLEST
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train_orpheus.layout import START_OF_SPEECH

pytestmark = pytest.mark.gpu

PROMPTS = [[*range(1000, 1000 + count), START_OF_SPEECH] for count in (20, 9)]
COUNT = SMALLEST + 20
"""Past the first cache, so that a second graph is made."""


def network(dtype):
    size = TinyOptions(hidden=256, layers=3, heads=4, kv_heads=2, mlp=512)
    made = OrpheusNetwork(load_base("tiny", tiny=size, dtype=dtype))
    move(made)
    made.lm.set_attn_implementation("sdpa")
    return made.lm.cuda().eval()


@pytest.fixture(scope="module")
def lm():
    return network(torch.bfloat16)


def said(lm, constrain="slots"):
    spoken = generate(lm, PROMPTS, seeds=[1, 2], max_new_tokens=COUNT, sampling=Sampling(constrain=constrain))
    return [each.ids for each in spoken]


@pytest.mark.parametrize(
    ("constrain", "dtype"),
    [("none", torch.bfloat16), ("audio", torch.bfloat16), ("slots", torch.bfloat16), ("slots", torch.float32)],
)
def test_graphs_say_what_steps_without_one_say(constrain, dtype, monkeypatch, caplog):
    lm = network(dtype)
    with_graphs = said(lm, constrain)
    assert said(lm, constrain) == with_graphs
    assert "without a CUDA graph" not in caplog.text
    monkeypatch.setattr(decoding, "can_be_recorded", lambda lm: False)
    assert said(lm, constrain) == with_graphs


def test_other_threads_use_the_card_while_a_graph_is_captured(lm, caplog):
    expected, over, failures = said(lm), threading.Event(), []

    def pin():
        while not over.is_set():
            try:
                event = torch.cuda.Event()
                torch.ones(1 << 16).pin_memory().cuda(non_blocking=True)
                event.record()
                event.synchronize()
            except RuntimeError as error:
                failures.append(error)
                return

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        assert [said(lm) for _ in range(3)] == [expected] * 3
    finally:
        over.set()
        thread.join()
    assert not failures
    assert "without a CUDA graph" not in caplog.text


def test_a_capture_that_fails_leaves_a_card_that_trains(lm, monkeypatch, caplog):
    expected, step = said(lm), decoding.CachedDecoder.step

    def looking(self, tokens, positions, *, span):
        positions.max().item()  # the host waits, which no capture allows
        return step(self, tokens, positions, span=span)

    stream = torch.cuda.current_stream()
    torch.cuda.manual_seed(3)
    with monkeypatch.context() as patched:
        patched.setattr(decoding.CachedDecoder, "step", looking)
        assert said(lm) == expected
    assert "without a CUDA graph" in caplog.text
    assert torch.cuda.current_stream() == stream
    drawn = torch.rand(4, device="cuda")
    torch.cuda.manual_seed(3)
    assert torch.equal(torch.rand(4, device="cuda"), drawn)
    assert said(lm) == expected
