"""Generation with kept keys is generation anew, and codes are drawn by the rules."""

from __future__ import annotations

import pytest
import torch

from tests.host_reads import HostReads
from tts_train.errors import ConfigError
from tts_train.nn.devices import planning_for
from tts_train_gpt_sovits.networks.gpt.generate import GptLine, SamplingOptions, generate, generate_lines, probabilities
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.signal.versions import GptConfig

CONFIG = GptConfig(phonemes=20, codes=17, width=16, heads=2, layers=2)
TEXT = torch.tensor([3, 1, 4, 1, 5])
PROMPT = torch.tensor([9, 2, 6])
GREEDY = SamplingOptions(top_k=1, repetition_penalty=1.0, max_codes=40)


@pytest.fixture
def network():
    torch.manual_seed(3)
    return GptNetwork(CONFIG).double().eval()


def anew(network, prompt, bert, steps):
    """Extend a prompt greedily, computing everything at each step."""
    codes = prompt
    for step in range(steps):
        batch = pack([GptUtterance(phonemes=TEXT, codes=codes, bert=bert)], end=16)
        with torch.no_grad():
            logits = network.head(network.packed_states(batch)[batch["rows"][-1]])
        if step < 11:
            logits = logits[:16]
        best = logits.argmax()
        if best == 16:
            break
        codes = torch.cat([codes, best[None]])
    return codes[len(prompt) :]


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:0]], ids=["prompt", "none"])
@pytest.mark.parametrize("with_bert", [False, True])
def test_kept_keys_give_what_all_tokens_give(network, prompt, with_bert):
    bert = torch.randn(5, 1024, dtype=torch.float64) if with_bert else None
    speech = generate(network, TEXT, prompt, bert=bert, options=GREEDY)
    assert speech.codes.tolist() == anew(network, prompt, bert, 40).tolist()
    assert len(speech.codes) >= 11


def test_speech_ends_where_the_network_says_so_but_not_at_once(network):
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[16] = 1.0
        network.layers[-1].norm2.weight.zero_()
        network.layers[-1].norm2.bias.fill_(1.0)
    speech = generate(network, TEXT, PROMPT, options=GREEDY)
    assert speech.ended
    assert len(speech.codes) == 11
    assert 16 not in speech.codes


def test_speech_is_cut_off_at_the_limit(network):
    with torch.no_grad():
        network.head.weight[16] = 0.0
        network.head.weight[5] = 9.0
        network.layers[-1].norm2.weight.zero_()
        network.layers[-1].norm2.bias.fill_(1.0)
    speech = generate(network, TEXT, PROMPT, options=GREEDY)
    assert not speech.ended
    assert speech.codes.tolist() == [5] * 40


def test_a_seed_repeats_the_speech(network):
    options = SamplingOptions(max_codes=30)
    said = [
        generate(network, TEXT, PROMPT, options=options, generator=torch.Generator().manual_seed(seed)).codes.tolist()
        for seed in (1, 1, 2)
    ]
    assert said[0] == said[1] != said[2]


LINES = [
    GptLine(phonemes=TEXT, prompt=PROMPT, seed=1),
    GptLine(phonemes=TEXT[:2], prompt=PROMPT[:0], seed=2, max_codes=17),
    GptLine(phonemes=torch.cat([TEXT, TEXT]), prompt=PROMPT, bert=torch.ones(10, 1024, dtype=torch.float64), seed=3),
    GptLine(phonemes=TEXT, prompt=PROMPT, seed=4),
]


def heard(speech):
    return [(each.codes.tolist(), each.ended) for each in speech]


@pytest.mark.parametrize("options", [SamplingOptions(max_codes=60), SamplingOptions(max_codes=60, top_p=0.8)], ids=str)
def test_an_utterance_is_the_same_whatever_is_spoken_beside_it(network, options):
    with torch.no_grad():
        network.head.weight[16] *= 1.5  # so that some end early
    alone = [heard(generate_lines(network, [line], options=options))[0] for line in LINES]
    assert heard(generate_lines(network, LINES, options=options)) == alone
    assert heard(generate_lines(network, LINES[::-1], options=options)) == alone[::-1]
    assert heard(generate_lines(network, [LINES[0], LINES[3]], options=options)) == [alone[0], alone[3]]
    assert len({len(codes) for codes, _ in alone}) > 1
    assert len(alone[1][0]) <= 17
    with planning_for("cuda"):  # asked every eighth step whether all have ended
        assert heard(generate_lines(network, LINES, options=options)) == alone


def test_the_host_waits_every_eighth_step_only(network):
    """What a device would be asked, and what is left over after the last answer is dropped."""
    with HostReads() as reads, planning_for("cuda"):
        reads.mark(list(network.parameters()))
        (speech,) = generate_lines(network, LINES[:1], options=SamplingOptions(max_codes=40))
    steps = len(speech.codes) + speech.ended
    assert len(reads.reads) == min(-(-steps // 8), 5) + 1, "\n".join(map(str, reads.reads))


def test_sums_of_whole_numbers_cut_where_sums_do():
    for seed in range(20):
        logits = 3 * torch.randn(4, 1025, generator=torch.Generator().manual_seed(seed))
        options = SamplingOptions(top_k=0, top_p=0.9)
        wanted = probabilities(logits, options)
        with planning_for("cuda"):
            assert torch.equal(probabilities(logits, options), wanted)
        assert torch.equal(torch.stack([probabilities(row, options) for row in logits]), wanted)


def test_repetition_makes_said_codes_unlikelier(network):
    plain = generate(network, TEXT, PROMPT, options=GREEDY).codes
    held = generate(network, TEXT, PROMPT, options=SamplingOptions(top_k=1, repetition_penalty=3.0, max_codes=40)).codes
    assert len(set(held[:11].tolist())) > len(set(plain[:11].tolist()))


LOGITS = torch.tensor([2.0, 1.0, 1.0, 0.0, -1.0])


def test_top_k_keeps_what_ties():
    kept = probabilities(LOGITS, SamplingOptions(top_k=2))
    assert (kept > 0).tolist() == [True, True, True, False, False]
    assert kept.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("top_p", "count"), [(0.01, 1), (0.5, 1), (0.75, 2), (0.94, 3), (1.0, 5)])
def test_top_p_keeps_the_likeliest_that_fit(top_p, count):
    assert (probabilities(LOGITS, SamplingOptions(top_k=0, top_p=top_p)) > 0).sum() == count


def test_top_p_comes_before_temperature():
    cold = probabilities(LOGITS, SamplingOptions(top_k=0, top_p=0.94, temperature=0.1))
    assert (cold > 0).sum() == 3
    assert probabilities(LOGITS, SamplingOptions(top_k=0, temperature=0.0)).tolist() == [1, 0, 0, 0, 0]


def test_codes_are_drawn_as_often_as_they_are_likely(network):
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[7] = 0.125
        network.layers[-1].norm2.weight.zero_()
        network.layers[-1].norm2.bias.fill_(1.0)
    options = SamplingOptions(top_k=0, repetition_penalty=1.0, max_codes=1)
    chance = torch.Generator().manual_seed(0)
    said = [generate(network, TEXT, PROMPT, options=options, generator=chance).codes.item() for _ in range(400)]
    # e^2 against fifteen others of weight 1: 0.33.
    assert said.count(7) / 400 == pytest.approx(0.33, abs=0.07)


@pytest.mark.parametrize(
    "given",
    [
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": -1.0},
        {"repetition_penalty": 0.0},
        {"max_codes": 0},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        SamplingOptions(**given)
