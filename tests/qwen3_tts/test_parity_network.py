"""Every reference figure of Qwen3-TTS's networks is met, and a figure that is off or unknown fails the runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.parity import check_file
from tests.qwen3_tts import parity_generate, parity_network, parity_sequence
from tests.qwen3_tts.reference import Reference
from tests.qwen3_tts.upstream_loss import UPSTREAM, Faults, UpstreamNetwork
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.frames.batch import pack_frames
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.families.token_lm.probe import ScoredFrames
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

GOLDEN = Path(__file__).parent / "golden"


def read(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def figures(check, name, tmp_path, change):
    """Return the figures of a changed copy of a file."""
    data = read(name)
    change(data)
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(data))
    return list(check_file(check, path))


def failed(made):
    return [str(figure) for figure in made if not figure.ok]


@pytest.mark.parametrize(
    ("check", "name", "least"),
    [
        (parity_network.check, "training", 880),
        (parity_network.check, "code_predictor", 200),
        (parity_network.check, "train_steps", 430),
        (parity_sequence.check, "sequence", 670),
        (parity_generate.check, "sampling", 36),
    ],
)
def test_every_figure_is_met(check, name, least):
    made = list(check_file(check, GOLDEN / f"{name}.json"))
    assert failed(made) == []
    assert len(made) >= least


def few(data):
    """Leave the short cases of one network in one type."""
    names = ("ragged.full_text.penalty1.05", "base_icl_long_text.streaming.penalty1.05")
    data["float32"] = {"r17": {name: data["float32"]["r17"][name] for name in names}}
    del data["float64"], data["same_in_both_types"]


def test_what_is_said_is_what_upstream_says(tmp_path):
    made = figures(parity_generate.check, "generate", tmp_path, few)
    assert failed(made) == []
    assert len(made) >= 28


def one_drawn(data):
    del data["r17"], data["r06"]["custom_auto.full_text"]


def test_draws_by_torchs_random_numbers_are_upstreams(tmp_path):
    made = figures(parity_generate.check, "generate_sampled", tmp_path, one_drawn)
    assert failed(made) == []
    assert len(made) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("generate", 510), ("generate_sampled", 8)])
def test_every_figure_of_generation_is_met(name, least):
    made = list(check_file(parity_generate.check, GOLDEN / f"{name}.json"))
    assert failed(made) == []
    assert len(made) >= least


def salted(data):
    data["salt"] = "other"


@pytest.mark.parametrize(
    ("check", "name", "last"),
    [
        (parity_network.check, "training", ("loss", "total", "l2", "values")),
        (parity_network.check, "code_predictor", ("loss", "l2", "values", "greedy")),
        (parity_network.check, "train_steps", ("loss", "total", "values")),
        (parity_sequence.check, "sequence", ("rows", "values")),
        (parity_generate.check, "sampling", ("top_ids",)),
    ],
)
def test_figures_of_other_weights_and_inputs_fail(tmp_path, check, name, last):
    made = [figure for figure in figures(check, name, tmp_path, salted) if figure.name.endswith(last)]
    # Where the projection has no gradient, it has none whatever the weights are.
    passed = [figure.name for figure in made if figure.ok and figure.expected != 0.0]
    assert made
    # Losses are all near that of a guess, and the tolerance of some steps in float32 is wide: one may be met by chance.
    assert len(passed) <= len(made) // 20


def test_generation_by_other_weights_fails(tmp_path):
    def change(data):
        few(data)
        salted(data)

    made = figures(parity_generate.check, "generate", tmp_path, change)
    assert not any(figure.ok for figure in made if figure.name.endswith(("codes", "values")))


@pytest.mark.parametrize(
    ("check", "name", "change"),
    [
        (parity_network.check, "code_predictor", lambda data: data.update(surprise=1.0)),
        (parity_network.check, "code_predictor", lambda data: data["float64"]["r06"].update(surprise=1.0)),
        (parity_network.check, "code_predictor", lambda data: data["config"]["r06"]["talker_config"].pop("head_dim")),
        (parity_network.check, "train_steps", lambda data: data.update(lr=0.00101)),
        (parity_sequence.check, "sequence", lambda data: data["inference"]["ragged.streaming"]["items"].reverse()),
        (parity_sequence.check, "sequence", lambda data: data.update(surprise=1.0)),
        (parity_generate.check, "sampling", lambda data: data["wide"].update(top_p=0.949)),
        (parity_generate.check, "sampling", lambda data: data["tight"].update(surprise=1.0)),
        (parity_generate.check, "generate_sampled", lambda data: (one_drawn(data), data["settings"].update(top_k=3))),
    ],
)
def test_a_changed_file_fails(tmp_path, check, name, change):
    assert failed(figures(check, name, tmp_path, change))


# --- what is drawn is what is taught ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """A row that a network drew, and the log-probabilities of its first codes and of its others."""
    data = read("training")
    reference = Reference(data, data["config"]["r17"], "float64")
    layout, form = reference.layout, Qwen3TTSPrompt(reference.layout)
    text = form.positions(reference.words("drawn", 4), role=reference.role)
    with torch.inference_mode():
        decoding = ScoredFrames(layout, reference.lm, form.inference_prompt(text), 5)
        ids = [step[0] for step in decoding.tokens()]
    row = form.speech_row(text, ids[:-1])
    likely = [float(scores[code]) for scores, code in zip(decoding.scores, decoding.codes, strict=True)]
    # The end has no other codes: those that were drawn after it do not count.
    codes = len(ids) - 1
    assert codes >= 2 * layout.slots
    firsts, others = sum(likely[:: layout.slots]), sum(likely[:codes]) - sum(likely[: codes : layout.slots])
    return reference.lm, Document("drawn", row.input_ids, row.prompt), firsts, others


@torch.no_grad()
def losses(network, document):
    output = network.eval()(pack_frames([document], network.layout))
    return -output.head.loss_sum.item(), -output.depth.loss_sum.item()


def test_the_loss_is_the_probability_that_codes_are_drawn_with(drawn):
    lm, document, firsts, others = drawn
    assert losses(FrameNetwork(lm, lm.layout), document) == pytest.approx((firsts, others), rel=1e-6)


@pytest.mark.parametrize(
    ("faults", "first_is_right", "other_is_right"),
    [
        ({"late": True}, False, True),
        ({"next_book": True}, True, False),
        ({"own_state": True}, True, False),
        ({"raw_text": True}, False, False),
    ],
    ids=lambda each: "".join(each) if isinstance(each, dict) else str(each),
)
def test_with_any_of_upstreams_faults_it_is_another_one(drawn, faults, first_is_right, other_is_right):
    lm, document, firsts, others = drawn
    none = {"late": False, "next_book": False, "own_state": False, "raw_text": False}
    found = losses(UpstreamNetwork(lm, lm.layout, Faults(**none | faults)), document)
    assert (found[0] == pytest.approx(firsts, rel=1e-6)) == first_is_right
    assert (found[1] == pytest.approx(others, rel=1e-6)) == other_is_right


def test_upstreams_last_head_learns_nothing(drawn):
    lm, document, *_ = drawn
    lm.zero_grad()
    UpstreamNetwork(lm, lm.layout, UPSTREAM["upstream_head"]).eval()(pack_frames([document], lm.layout)).loss.backward()
    slopes = [head.weight.grad.norm().item() for head in lm.talker.code_predictor.lm_head]
    assert slopes[-1] == 0
    assert min(slopes[:-1]) > 0
    assert lm.talker.text_projection.linear_fc1.weight.grad is None
