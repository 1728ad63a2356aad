"""Training on takes that the network draws: what rises, what is continued, what ends a run, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.families.finch import FINCH
from tests.families.finch_plugin import Loudness, install
from tests.families.pairs import recorded
from tts_train.cli import main
from tts_train.contract import Figure
from tts_train.families.token_lm.reinforce.data import PromptData
from tts_train.families.token_lm.reinforce.guards import GuardOptions, Guards
from tts_train.run.checkpoint import open_checkpoint
from tts_train.sampling.rewards import WORDS, Term

ROOT = Path(__file__).parents[2]
SMALL = {
    "model.init_from": "tiny", "model.tiny.hidden": 32, "model.tiny.layers": 1, "model.head.softmax": "slot",
    "model.group": 8, "data.texts": 2, "data.most_seconds": 1, "data.max_tokens": 600, "data.val_share": 0.4,
    "model.optimizer.lr": 3e-2, "model.schedule.name": "constant", "model.kl": 0.001,
    "model.guards.kl": 0, "model.guards.length": 0, "listen.sentences": 0,
    "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false", "checkpoint.every_n_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with texts, and Finch installed."""
    folder = tmp_path_factory.mktemp("finch")
    recorded(FINCH, folder / "set", [8 + number % 4 for number in range(16)])
    site = str(install(folder / "site"))
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(site)
        patched.setenv("PYTHONPATH", os.pathsep.join([site, str(ROOT), os.environ.get("PYTHONPATH", "")]))
        yield folder


def words(home, run, **options):
    given = {"data.path": home / "set", "run_dir": home / run, **SMALL, **options}
    return [
        "fit", "--backend", "finch", "--stage", "grpo",
        *(word for name, value in given.items() for word in (f"--{name.replace('__', '.')}", str(value))),
    ]  # fmt: skip


def fitted(home, run, **options):
    assert main(words(home, run, **options)) == 0
    return home / run


def curve(run, name):
    lines = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["value"] for entry in map(json.loads, lines) if entry["name"] == name]


def ended(run):
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["exit_code"] == 0
    return record["exit_reason"]


LEARNT = {"model.reward": "loudness:1", "trainer.max_steps": 24, "model.passes": 2}


@pytest.fixture(scope="module")
def learnt(home):
    """A run that is rewarded for what the metric of an extension measures."""
    return fitted(home, "learnt", **LEARNT)


def test_what_is_rewarded_rises(learnt):
    assert ended(learnt) == "finished"
    loudness = curve(learnt, "train/loudness")
    assert loudness[-1] > loudness[0] + 5
    assert curve(learnt, "train/reward")[-1] > 0.5
    assert curve(learnt, "val/loudness")[-1] > curve(learnt, "val/loudness")[0] + 3
    assert curve(learnt, "val/loss")[-1] == -curve(learnt, "val/reward")[-1] < -0.5
    parts = zip(*(curve(learnt, f"train/share_{name}") for name in ("sampling", "scoring", "steps")), strict=True)
    assert all(sum(each) == pytest.approx(1) for each in parts)
    assert set(curve(learnt, "train/judged")) == {1.0}


def test_the_ratio_moves_in_later_passes_alone(learnt):
    clipped, kl = curve(learnt, "train/clipped"), curve(learnt, "train/kl")
    assert set(clipped[::2]) == {0.0}, "takes are learnt from by the network that drew them"
    assert max(clipped[1::2]) > 0
    assert kl[0] == 0.0, "the first step begins where the reference is"
    assert kl[-1] > 0


def test_a_run_continues_exactly_also_between_passes_and_when_killed(home, learnt):
    half = fitted(home, "killed", **{**LEARNT, "trainer.max_steps": 5})
    assert open_checkpoint(half).state("reinforce")["reinforce"]["takes"] is not None, "a pass over them is left"
    command = [sys.executable, "-m", "tts_train", *words(home, "killed", **LEARNT), "--debug.inject", "kill@step=9"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    run = fitted(home, "killed", **LEARNT)
    for name in ("loudness", "kl", "clipped", "take_tokens", "loss", "kl_weight"):
        assert curve(run, f"train/{name}") == curve(learnt, f"train/{name}"), name
    one, other = (open_checkpoint(each).weights() for each in (run, learnt))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_run_is_begun_from_another_with_texts_and_adapters(home, learnt):
    lines = [f"Line number {number} of some." for number in range(9)]
    (home / "texts.txt").write_text("\n".join([*lines, "long " * 60]), encoding="utf-8")
    options = {"model.init_from": learnt, "model.method": "lora", "model.loss": "dapo", "model.scale": "batch"}
    given = {**LEARNT, **options, "model.passes": 1, "trainer.max_steps": 3, "data.path": home / "texts.txt"}
    run = fitted(home, "adapted", **given)
    kl = curve(run, "train/kl")
    assert kl[0] == 0.0, "the reference is the network without its adapters"
    assert kl[-1] > 0
    data = json.loads((run / "run.json").read_text(encoding="utf-8"))["data"]
    assert data["left_out"] == {"too long for one utterance": 1}
    assert data["rows"] == 9
    # It goes on where the other one came to.
    assert curve(run, "val/loudness")[0] > curve(learnt, "val/loudness")[0] + 3


def test_the_weight_of_the_divergence_nears_its_target(home):
    run = fitted(home, "target", **{**LEARNT, "model.passes": 1, "model.kl_target": 0.01, "trainer.max_steps": 5})
    weights, kl = curve(run, "train/kl_weight"), curve(run, "train/kl")
    assert weights[:2] == pytest.approx([0.001, 0.00098]), "nothing diverges at first"
    assert (weights[-1] > weights[-2]) == (kl[-2] > 0.01)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"model.guards.kl": 0.01}, "nats a token over 4 steps, is above --model.guards.kl 0.01"),
        ({"model.guards.length": 0.99, "model.reward": "stop:1"}, "is below --model.guards.length 0.99"),
        ({"model.reward": "quietness:1", "model.watch": "loudness"}, "loudness of held-out texts, which is not rewar"),
    ],
    ids=["kl", "length", "watch"],
)
def test_a_guard_ends_the_run_and_says_so(options, why, home, caplog, request):
    given = {**LEARNT, "model.passes": 1, "trainer.max_steps": 40, **options}
    run = home / request.node.name
    assert main(words(home, run.name, **given)) == 0
    reason = ended(run)
    step = len(curve(run, "train/kl"))
    assert step < 40
    assert reason.startswith(f"stopped: Stopped at step {step}: ")
    assert why in reason
    assert f"The best checkpoint is {run}" in reason
    # The same command says the same again, and trains no further.
    caplog.clear()
    assert main(words(home, run.name, **given)) == 0
    assert why in caplog.text
    assert ended(run) == reason
    assert len(curve(run, "train/kl")) == step


def test_a_step_is_planned_without_texts(home, capsys):
    options = {**LEARNT, "data.path": home / "nothing"}
    assert main(["plan", *words(home, "planned", **options)[1:], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["data.max_tokens"] == 600
    # The copy that everything is compared with lies on the card as well.
    assert report["parameters"] == 2 * report["trained_parameters"]


def test_bounds_are_judged_by_several_steps():
    guards = Guards(GuardOptions(silence=0.5, length=0.6, kl=0))
    assert [guards.judge(step, {"silence": 2.0, "length": 1.0, "kl": 9.0}) for step in (1, 2, 3)] == [None] * 3
    found = guards.judge(4, {"silence": 2.0})
    assert found is not None
    assert found.startswith("Stopped at step 4: takes have 2.00 s of silence beyond pauses, over 4 steps")
    again = Guards(GuardOptions(silence=3))
    again.load(guards.state())
    assert again.judge(5, {"silence": 9.0}) is not None
    # A run that had ended goes on with another bound or weight, and is judged by what comes after it.
    again.load(guards.state(), stopped=True)
    assert [again.judge(step, {"silence": 9.0}) for step in (5, 6, 7)] == [None] * 3
    assert again.judge(8, {"silence": 9.0}) is not None
    assert Guards(GuardOptions(length=0, kl=0, silence=0)).judge(9, {"silence": 99.0}) is None


@pytest.mark.parametrize(
    ("better", "fallen", "risen"), [("higher", 0.5, 1.5), ("lower", 1.5, 0.5), ("one", 1.5, 1.0), ("one", 0.5, 1.0)]
)
def test_what_is_watched_is_compared_with_its_first_interval(better, fallen, risen):
    term = Term(figure=Figure(name="f", unit="", better=better, summary="."), weight=1.0, floor=None)
    guards = Guards(GuardOptions())
    assert guards.watch(0, term, [], seed=0) is None
    first = [0.9, 1.0, 1.1, 1.0]
    assert guards.watch(0, term, first, seed=0) is None
    assert guards.watch(5, term, first, seed=0) is None
    assert guards.watch(5, term, [risen] * 4, seed=0) is None
    assert "f of held-out texts" in str(guards.watch(5, term, [fallen] * 4, seed=0))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"model.group": 1}, "--model.group must be 2 or more"),
        ({"model.reward": "charm:1"}, "'charm' is not measured"),
        ({"model.watch": "loudness"}, "is rewarded by --model.reward"),
        ({"model.reward": "stop:1", "model.watch": "loudness", "data.val_share": 0}, "raise --data.val_share"),
        ({"model.head.softmax": "audio"}, "--model.head.softmax audio"),
        ({"model.method": "lora", "model.lora.dropout": 0.1}, "--model.lora.dropout must be 0"),
        ({"model.kl": 0, "model.kl_target": 0.1}, "--model.kl_target adapts --model.kl"),
        ({"data.texts": 40}, "a step takes --data.texts 40"),
        ({"data.max_tokens": 15}, "leave no room for sound"),
        ({"model.reward": "duration_ratio:1"}, "--model.reward: 'duration_ratio' is not measured"),
        ({"model.reward": "duration_ratio:1"}, "duration: there is no recording of this sentence"),
        ({"model.watch": "duration_ratio"}, "--model.watch: 'duration_ratio' is not measured"),
        ({"model.watch": "stop", "trainer.num_sanity_val_steps": 0}, "--trainer.num_sanity_val_steps -1"),
        ({"model.watch": "stop", "trainer.limit_val_batches": 0}, "of that nothing is known"),
        ({"model.guards.length": 1}, "length from 0 to below 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_refusals(options, why, home, capsys):
    assert main(words(home, "refused", **{**LEARNT, **options})) == 2
    assert why in capsys.readouterr().err
    assert not (home / "refused").exists()


def test_what_is_usual_is_what_these_texts_can_be_measured_by(home, caplog, monkeypatch):
    monkeypatch.setitem(WORDS, "mos", ())
    run = fitted(home, "usual", **{**LEARNT, "model.reward": "", "model.passes": 1, "trainer.max_steps": 1})
    rewarded = open_checkpoint(run).state("reinforce")["reinforce"]["wishes"]
    assert [name for name, *_ in rewarded] == ["pace_ratio", "stop", "repetition", "long_silence"]
    assert "speaker: there is no other recording of this speaker" in caplog.text
    assert "recognition: give --model.weights.recognition" in caplog.text


def test_a_reward_of_which_no_take_has_a_number_is_refused_at_the_start(home, capsys, monkeypatch):
    monkeypatch.setattr(Loudness, "measure", lambda self, take: {"loudness": float("nan")})
    assert main(words(home, "unjudged", **LEARNT)) == 2
    assert "takes could be judged by --model.reward (loudness)" in capsys.readouterr().err
    assert not (home / "unjudged").exists()


def test_a_codec_that_is_not_here_is_asked_for_and_nothing_instead_of_it(home, capsys, monkeypatch):
    monkeypatch.setattr(PromptData, "facts", {"settings": {"tokenizer": "tiny", "codec": "nobody/hum"}})
    assert main(words(home, "mute", **LEARNT)) == 2
    told = capsys.readouterr().err
    assert "The codec nobody/hum is not on this machine" in told
    # It is 0 already, and takes have to be heard to be measured.
    assert "--listen.sentences" not in told


def test_takes_that_are_cut_off_early_are_told_of(home, caplog):
    given = {**LEARNT, "model.passes": 1, "data.max_tokens": 240, "trainer.max_steps": 1, "data.val_share": 0}
    fitted(home, "short", **given)
    assert "s already, and not after --data.most_seconds 1: no more of 8 takes" in caplog.text


def test_another_weight_of_the_divergence_holds_when_a_run_goes_on(home):
    given = {**LEARNT, "model.passes": 1}
    fitted(home, "weighed", **{**given, "trainer.max_steps": 1})
    run = fitted(home, "weighed", **{**given, "trainer.max_steps": 2, "model.kl": 0.5})
    assert curve(run, "train/kl_weight") == [pytest.approx(0.001), 0.5]


def test_a_run_goes_on_with_the_figures_that_it_was_begun_with(home, caplog):
    given = {**LEARNT, "model.passes": 1, "model.reward": "duration:1", "data.val_share": 0}
    (home / "few.txt").write_text("One line.\nAnother line.\nA third one.\n", encoding="utf-8")
    run = fitted(home, "begun", **{**given, "data.path": home / "few.txt", "trainer.max_steps": 1})
    with pytest.MonkeyPatch.context() as patched:
        # As where something is installed meanwhile that measures the word, too.
        patched.setitem(WORDS, "duration", ("loudness", "pace_ratio"))
        fitted(home, "begun", **{**given, "data.path": home / "few.txt", "trainer.max_steps": 2})
    assert "Rewarded, as the run was begun: pace_ratio:1.0." in caplog.text
    assert open_checkpoint(run).state("reinforce")["reinforce"]["wishes"] == [["pace_ratio", 1.0, None]]


def test_another_figure_is_not_watched_by_the_interval_of_the_first(home, capsys):
    given = {**LEARNT, "model.passes": 1, "model.watch": "repetition"}
    fitted(home, "watched", **{**given, "trainer.max_steps": 1})
    assert main(words(home, "watched", **{**given, "model.watch": "stop", "trainer.max_steps": 2})) == 2
    assert "this run was begun with repetition. Give that" in capsys.readouterr().err
    fitted(home, "watched", **{**given, "model.watch": "", "trainer.max_steps": 2})
    fitted(home, "watched", **{**given, "trainer.max_steps": 3})


def test_a_run_goes_on_with_its_own_reward(home, learnt, capsys):
    assert main(words(home, "learnt", **{**LEARNT, "model.reward": "stop:1", "trainer.max_steps": 26})) == 2
    assert "model.reward" in capsys.readouterr().err
