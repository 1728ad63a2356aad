"""Generation against transformers' own, and its promises about seeds, batches and slots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.orpheus.family import (
    RELEASED,
    Decoding,
    OrpheusNetwork,
    base_config,
    generate,
    generation_bytes,
    load_base,
    stream,
)
from tests.orpheus.trained_runs import move
from tts_train.errors import ConfigError, NumericError
from tts_train.families.token_lm.decoding import generate as generation, step_graph
from tts_train.families.token_lm.decoding.decoder import SMALLEST
from tts_train.families.token_lm.decoding.memory import rows_that_fit
from tts_train.families.token_lm.decoding.sampling import penalise, sample
from tts_train.families.token_lm.model import Sampling
from tts_train_orpheus import layout
from tts_train_orpheus.prompt import encode_text, inference_prompt
from tts_train_orpheus.tokenizer import load_tokenizer

torch.set_num_threads(1)

_TOKENIZER = load_tokenizer("tiny")
PROMPT = inference_prompt(encode_text(_TOKENIZER, "Hello there."))
SHORT = inference_prompt(encode_text(_TOKENIZER, "Hi."))


@pytest.fixture(scope="module")
def lm():
    network = OrpheusNetwork(load_base("tiny"))
    move(network)
    network.lm.set_attn_implementation("sdpa")
    return network.lm.eval()


def of(noise):
    return lambda columns: noise if columns is None else noise.gather(-1, columns)


def test_greedy_equals_transformers(lm):
    greedy = Sampling(temperature=0, repetition_penalty=1.3)
    found = generate(lm, [PROMPT], seeds=[0], max_new_tokens=24, sampling=greedy)[0]
    prompt = torch.as_tensor(PROMPT)[None]
    expected = lm.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        repetition_penalty=1.3,
        max_new_tokens=24,
        eos_token_id=layout.END_OF_SPEECH,
        pad_token_id=layout.PAD,
    )
    assert list(found.ids) == expected[0, len(PROMPT) :].tolist()


def test_the_same_seed_speaks_the_same_and_another_does_not(lm):
    torch.manual_seed(5)
    first = generate(lm, [PROMPT], seeds=[7], max_new_tokens=15)[0]
    torch.manual_seed(6)
    state = torch.get_rng_state()
    again = generate(lm, [PROMPT], seeds=[7], max_new_tokens=15)[0]
    assert first.ids == again.ids
    assert torch.equal(state, torch.get_rng_state())
    assert generate(lm, [PROMPT], seeds=[8], max_new_tokens=15)[0].ids != first.ids
    assert tuple(stream(lm, PROMPT, seed=7, max_new_tokens=15)) == first.ids


@pytest.mark.parametrize("constrain", ["none", "slots"])
def test_a_text_sounds_the_same_alone_and_in_a_batch(lm, constrain):
    sampling = Sampling(constrain=constrain)
    together = generate(lm, [PROMPT, SHORT], seeds=[1, 2], max_new_tokens=15, sampling=sampling)
    alone = [
        generate(lm, [p], seeds=[s], max_new_tokens=15, sampling=sampling)[0] for p, s in ((PROMPT, 1), (SHORT, 2))
    ]
    assert [one.ids for one in together] == [one.ids for one in alone]


def test_slots_leave_no_error_and_none_counts_them(lm):
    held = generate(lm, [PROMPT], seeds=[0], max_new_tokens=35, sampling=Sampling(constrain="slots"))[0]
    assert held.errors == {"wrong_slot": 0, "not_audio": 0, "incomplete_frame": 0}
    assert held.content.frames == 5
    assert held.stopped_by == "max_new_tokens"
    free = generate(lm, [PROMPT], seeds=[0], max_new_tokens=35)[0]
    assert sum(free.errors.values()) > 0
    assert free.errors["not_audio"] == sum(layout.slot_of(token) < 0 for token in free.ids)
    sound = generate(lm, [PROMPT], seeds=[0], max_new_tokens=35, sampling=Sampling(constrain="audio"))[0]
    assert sound.errors["not_audio"] == 0
    assert sound.errors["wrong_slot"] > 0


def test_rows_stop_at_their_end_of_speech_and_the_others_go_on(lm):
    sampling = Sampling(temperature=1, top_p=1, repetition_penalty=1, constrain="slots")
    rows = lm.get_input_embeddings().weight.data
    kept = rows[layout.END_OF_SPEECH].clone()
    try:
        # A row ten times the usual length: the end of speech comes at some frames and not at others.
        rows[layout.END_OF_SPEECH] = torch.randn(64, generator=torch.Generator().manual_seed(0))
        batch = generate(lm, [PROMPT, SHORT] * 3, seeds=range(6), max_new_tokens=70, sampling=sampling)
        alone = generate(lm, [SHORT], seeds=[3], max_new_tokens=70, sampling=sampling)[0]
    finally:
        rows[layout.END_OF_SPEECH] = kept
    ended = [one for one in batch if one.stopped_by == "end of speech"]
    assert len({len(one.ids) for one in ended}) > 1
    for one in ended:
        assert one.ids.index(layout.END_OF_SPEECH) == len(one.ids) - 1 == 7 * one.content.frames
    assert batch[3].ids == alone.ids


def test_batches_of_any_size_say_the_same(lm, monkeypatch, caplog):
    sampling, texts = Sampling(constrain="slots"), [PROMPT, SHORT, PROMPT, SHORT, SHORT]
    limits = [14, 7, 21, 14, 7]

    def said(**options):
        return [one.ids for one in generate(lm, texts, seeds=range(5), max_new_tokens=limits, **options)]

    together = said(sampling=sampling)
    assert [len(ids) for ids in together] == limits
    assert said(sampling=sampling, batch_size=1) == said(sampling=sampling, batch_size=2) == together
    whole = generation._together

    def little_room(ids, lm, prompts, **options):
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(ids, lm, prompts, **options)

    monkeypatch.setattr(generation, "_together", little_room)
    assert said(sampling=sampling) == together
    assert "No memory for 5 utterances at once; going on with 2." in caplog.text


def test_steps_from_graphs_say_the_same_and_no_graph_is_let_go_while_a_card_may_run_it(lm, monkeypatch):
    count = SMALLEST + 20 - len(PROMPT)  # past the first cache
    asked = {"seeds": [3], "max_new_tokens": count, "sampling": Sampling(constrain="slots")}
    expected = generate(lm, [PROMPT], **asked)[0].ids
    seen = []

    class Graph:
        def __init__(self):
            self.replay = lambda: made.advance(made._decoder.places)
            seen.append(f"capture {made._decoder.places}")

    class Stream:
        def __init__(self, *where):
            self.where = where[1:]

        def synchronize(self):
            seen.append("waited")

    monkeypatch.setattr(step_graph.StepGraph, "_record", lambda self, step: setattr(self, "_graph", Graph()))
    monkeypatch.setattr(step_graph, "side_stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    made = Decoding(lm, [PROMPT], seeds=[3], limits=[count], sampling=asked["sampling"])
    made._graph = step_graph.StepGraph(torch.device("cpu"), enabled=True)
    with torch.inference_mode():
        assert tuple(drawn[0] for drawn in made.tokens()) == expected
    both = ["waited"] * 2
    assert seen == [f"capture {SMALLEST}", *both, f"capture {made._decoder.places}", *both]
    assert made._graph._graph is None


def test_memory_is_counted_by_what_there_is(lm):
    config = base_config("tiny", RELEASED)
    few, many = (generation_bytes(config, rows, 1024, torch.bfloat16) for rows in (4, 16))
    # 28 layers, keys and values, 1,024 places, 8 heads of 128 in two bytes.
    assert few > 4 * 28 * 2 * 1024 * 8 * 128 * 2
    assert many == 4 * few
    assert 0 < generation_bytes(config, 1, 1024, torch.bfloat16) < few
    assert rows_that_fit(lm, 1000) == 16


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(20000, 1)
    noise = torch.empty(logits.shape).exponential_(generator=torch.Generator().manual_seed(0))
    everything = Sampling(temperature=1, top_p=1)
    shares = torch.bincount(sample(logits, everything, of(noise)), minlength=4) / 20000
    # Three standard deviations of a share of 0.5 in 20,000 draws are 0.011.
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.011)
    nucleus = torch.bincount(sample(logits, Sampling(temperature=1, top_p=0.7), of(noise)), minlength=4) / 20000
    assert torch.allclose(nucleus, torch.tensor([0.625, 0.375, 0, 0]), atol=0.011)


@pytest.mark.parametrize("settings", [{"top_p": 0.5}, {"top_p": 0.9, "temperature": 0.6}, {"top_p": 1.0, "top_k": 7}])
def test_what_can_be_drawn_is_what_transformers_lets_through(settings):
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(1, 50, generator=generator)
    sampling = Sampling(**{"temperature": 1.0, **settings})
    warpers = [TemperatureLogitsWarper(sampling.temperature)]
    warpers += [TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    warpers += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    passed = LogitsProcessorList(warpers)(torch.zeros(1, 1, dtype=torch.long), logits)
    noise = torch.empty(30000, 50).exponential_(generator=generator)
    drawn = sample(logits.repeat(30000, 1), sampling, of(noise))
    assert set(drawn.tolist()) <= set(passed.isfinite()[0].nonzero()[:, 0].tolist())
    expected = passed.softmax(dim=-1)[0]
    assert torch.allclose(torch.bincount(drawn, minlength=50) / 30000, expected, atol=0.01)


def test_the_penalty_is_transformers():
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 1, 4], [0, 8, 3]])
    used = torch.zeros(2, 9, dtype=torch.bool).scatter(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits)
    assert torch.equal(penalise(logits, used, 1.3), expected)


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match=r"--temperature.*--top_p.*--repetition_penalty"):
        Sampling(temperature=-1, top_p=0, repetition_penalty=0)
    with pytest.raises(ConfigError, match="--temperature"):
        Sampling(temperature=float("nan"))


def test_too_long_and_too_few(lm):
    with pytest.raises(ConfigError, match="room for 131072"):
        generate(lm, [PROMPT], seeds=[0], max_new_tokens=200000)
    with pytest.raises(ConfigError, match="--max_new_tokens"):
        generate(lm, [PROMPT], seeds=[0], max_new_tokens=0)
    with pytest.raises(ConfigError, match="one seed"):
        generate(lm, [PROMPT, np.array([1])], seeds=[0])


def test_broken_weights_are_told():
    lm = load_base("tiny").eval()
    lm.set_attn_implementation("sdpa")
    lm.model.norm.weight.data[0] = torch.nan
    with pytest.raises(NumericError, match="not finite"):
        generate(lm, [SHORT], seeds=[0], max_new_tokens=1)
