"""Listening while training: what it leaves alone, what it keeps, what it costs, and what it finds fault with."""

from __future__ import annotations

import json
import logging
import random

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from tests.core.training.small import Numbers
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.contract.module import StageModule, speaks
from tts_train.contract.voice import Passage, SampleVoice, Uttered, take_turns
from tts_train.errors import ConfigError
from tts_train.report.history import History, series
from tts_train.run.checkpoint import RunCard
from tts_train.run.directory import RunDirectory
from tts_train.sound import Sound
from tts_train.training.listen.budget import TimeBudget
from tts_train.training.listen.callback import Listen
from tts_train.training.listen.options import ListenOptions
from tts_train.training.listen.samples import Scorer, judge, longest_loop, most_tokens
from tts_train.training.survive.checkpoint import CheckpointOptions, PeriodicCheckpoint
from tts_train.training.watch.history import MetricsHistory

RATE, TOKENS = 8000, 20.0


def tone(seconds: float, level: float = 0.3) -> Sound:
    at = np.arange(round(seconds * RATE)) / RATE
    return Sound((level * np.sin(2 * np.pi * 220 * at)).astype(np.float32), RATE)


class Hum(SampleVoice):
    """A voice that hums longer the longer its module was trained, and draws on every global random state."""

    tokens_per_second = TOKENS

    def __init__(self, module: Hummer) -> None:
        self.module = module

    def held_out(self, count):
        known = {"recording": tone(1.0), "ceiling": tone(1.0, 0.2)}
        return [Passage(name=f"utterance-{n}", text=f"Sentence {n}.", tokens=20, **known) for n in range(count)]

    def passage(self, name, text):
        return Passage(name=name, text=text, tokens=len(text))

    def speak(self, passage, *, seed, max_tokens):
        assert not any(part.training for part in self.module.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3), np.random.rand(3), random.random()
        self.module.heard.append((passage.name, seed))
        seconds = 0.5 + 0.1 * self.module.trainer.global_step
        tokens = random.Random(seed).sample(range(1000), min(round(seconds * TOKENS), max_tokens))
        return Uttered(sound=tone(seconds), tokens=tokens, ended=True)


class Hummer(StageModule):
    """A layer with dropout, whose training shows every draw that something else made."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.quiet = torch.nn.Dropout(0.5)
        torch.nn.init.constant_(self.layer.weight, 0.1)
        torch.nn.init.zeros_(self.layer.bias)
        self.heard: list[tuple[str, int]] = []
        self.fault = fault
        self.modes: set[bool] = set()

    def voice(self):
        if self.fault:
            raise self.fault
        return Hum(self)

    def training_step(self, batch):
        self.modes.add(self.quiet.training)
        noise = torch.rand(4) * np.random.rand() * random.random()
        return self.quiet(self.layer(batch / 16) + noise).square().mean()

    def validation_step(self, batch):
        self.log("val/loss", self.layer(batch / 16).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module, callbacks, folder, *, steps=6, every=2, logger=False, **options):
    L.seed_everything(1, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=every,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"num_sanity_val_steps": 1, "enable_checkpointing": False, **options},
    )
    trainer.fit(module, DataLoader(Numbers(), batch_size=2), DataLoader(Numbers(), batch_size=8))
    return trainer


def listen(folder, **options):
    return Listen(ListenOptions(**{"max_share": 1.0, "metrics": ["clipping", "duration"], **options}), folder, seed=7)


@pytest.mark.parametrize("options", [{}, {"every_n_steps": 1}])
def test_training_is_the_same_bit_for_bit(tmp_path, options):
    deaf, heard = Hummer(), Hummer()
    fit(deaf, [], tmp_path)
    fit(heard, [listen(tmp_path / "samples", **options)], tmp_path)
    assert torch.equal(deaf.layer.weight, heard.layer.weight)
    assert torch.equal(deaf.layer.bias, heard.layer.bias)
    assert heard.modes == {True}
    times = 6 if options else 3
    assert heard.heard == [("utterance-0", 7), ("utterance-1", 8)] * times


def test_samples_scores_and_references_are_kept(tmp_path):
    board = TensorBoardLogger(tmp_path, name="", version="board")
    trainer = fit(Hummer(), [MetricsHistory(tmp_path), listen(tmp_path / "samples")], tmp_path, logger=board)
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {
        "reference",
        "codec",
        "step-000002",
        "step-000004",
        "step-000006",
    }
    files = {path.name for path in (tmp_path / "samples" / "step-000004").iterdir()}
    assert files == {f"utterance-{n}.{ending}" for n in (0, 1) for ending in ("wav", "png", "json")}
    facts = json.loads((tmp_path / "samples" / "step-000004" / "utterance-1.json").read_text())
    assert (facts["seed"], facts["tokens"], facts["text"]) == (8, 18, "Sentence 1.")
    assert facts["duration_ratio"] == pytest.approx(0.9, abs=0.02)
    logged = series(History(tmp_path).entries())
    assert [entry.step for entry in logged["listen/duration_ratio"]] == [2, 4, 6]
    assert [entry.value for entry in logged["listen/swallowed"]] == [0, 0, 0]
    assert 0 < logged["listen/share"][-1].value < 1
    assert {"listen/repetition", "listen/runaway", "listen/clipped"} <= set(trainer.callback_metrics)
    events = EventAccumulator(str(tmp_path / "board"), size_guidance={"images": 0, "audio": 0}).Reload()
    for kind in (events.Audio, events.Images):
        assert [event.step for event in kind("listen/utterance-0")] == [2, 4, 6]


def test_what_training_starts_from_is_heard_where_that_is_asked(tmp_path, caplog):
    module, deaf = Hummer(), Hummer()
    with caplog.at_level(logging.INFO):
        fit(module, [listen(tmp_path, at_start=True, max_share=1e-6)], tmp_path)
    fit(deaf, [], tmp_path)
    # Before the first step, and the first time after it as ever.
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-000000", "step-000002"]
    assert torch.equal(deaf.layer.weight, module.layer.weight)


def test_texts_of_the_users_are_spoken(tmp_path):
    module = Hummer()
    fit(module, [listen(tmp_path, sentences=["Good morning.", "Good night."])], tmp_path, steps=2)
    assert module.heard == [("text-1", 7), ("text-2", 8)]


def test_the_best_checkpoint_follows_a_score_that_is_better_when_higher(tmp_path):
    for mode, best in (("max", 6), ("min", 2)):
        run = RunDirectory(tmp_path / mode)
        run.create()
        options = CheckpointOptions(monitor="listen/duration_ratio", mode=mode)
        saves = PeriodicCheckpoint(run, RunCard(backend="b", stage="s", config={}), options)
        fit(
            Hummer(),
            [saves, listen(run.samples)],
            tmp_path,
            plugins=[DirectoryCheckpointIO()],
            enable_checkpointing=True,
        )
        assert (run.checkpoints / "best").resolve().name == f"step-{best:06d}"


def test_early_stopping_waits_for_a_score(tmp_path):
    # First in the list, and so the first to ask; thinning must not keep the figure from it.
    stops = EarlyStopping("listen/duration_ratio", mode="min", patience=2, check_on_train_epoch_end=False)
    trainer = fit(Hummer(), [stops, listen(tmp_path, max_share=1e-6)], tmp_path, steps=20)
    assert trainer.global_step == 6


def test_the_worst_is_not_taken_for_the_best(tmp_path):
    for name, mode in (("listen/runaway", "max"), ("listen/nothing", "min")):
        with pytest.raises(ConfigError, match=name):
            fit(Hummer(), [EarlyStopping(name, mode=mode), listen(tmp_path)], tmp_path)


def test_a_voice_that_is_not_here_stops_no_training(tmp_path, caplog):
    module, deaf = Hummer(fault=ConfigError("The codec x is not on this machine.")), Hummer()
    with caplog.at_level(logging.WARNING):
        fit(module, [listen(tmp_path)], tmp_path)
    fit(deaf, [], tmp_path)
    assert torch.equal(deaf.layer.weight, module.layer.weight)
    told = [record.message for record in caplog.records if "codec x" in record.message]
    assert told == ["Nothing more is spoken while this run trains: The codec x is not on this machine."]


def test_the_first_time_is_always_heard_and_then_the_budget_holds(tmp_path, caplog):
    module = Hummer()
    with caplog.at_level(logging.INFO):
        trainer = fit(module, [listen(tmp_path, max_share=1e-6)], tmp_path)
    assert [name for name, _ in module.heard] == ["utterance-0", "utterance-1"]
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000002"]
    assert trainer.callback_metrics["listen/share"] > 0
    assert "Skipping listening at step 4 to stay within --listen.max_share 1e-06." in caplog.text
    assert "Listened 1 times (" in caplog.text
    assert "skipped 2 times to stay within --listen.max_share 1e-06." in caplog.text


class Choir(Hum):
    """Says all passages at once."""

    def speak_many(self, passages, *, seeds, max_tokens):
        self.module.together.append(len(passages))
        if self.module.full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA long story.")
        each = zip(passages, seeds, max_tokens, strict=True)
        return [self.speak(passage, seed=seed, max_tokens=limit) for passage, seed, limit in each]


class Singer(Hummer):
    def __init__(self, *, full: bool = False, **options) -> None:
        super().__init__(**options)
        self.together: list[int] = []
        self.full = full

    def voice(self):
        return Choir(self)


def test_passages_are_said_together_where_a_voice_can(tmp_path):
    one, all_ = Hummer(), Singer()
    fit(one, [listen(tmp_path / "one")], tmp_path)
    fit(all_, [listen(tmp_path / "all")], tmp_path)
    assert all_.heard == one.heard
    assert all_.together == [2] * 3
    for path in sorted((tmp_path / "one").rglob("*.wav")):
        assert path.read_bytes() == (tmp_path / "all" / path.relative_to(tmp_path / "one")).read_bytes()


def test_no_memory_to_listen_is_told_and_training_goes_on(tmp_path, caplog):
    module, deaf = Singer(full=True), Hummer()
    with caplog.at_level(logging.WARNING):
        listens = listen(tmp_path)
        fit(module, [listens], tmp_path)
    fit(deaf, [], tmp_path)
    assert torch.equal(deaf.layer.weight, module.layer.weight)
    told = [record.message for record in caplog.records if "memory" in record.message]
    assert len(told) == 1
    assert told[0].startswith("Step 2: there is no memory to speak while this run trains (CUDA out of memory. Tried")
    assert "A long story" not in told[0]
    assert "Training goes on" in told[0]
    assert "--listen.sentences 0" in told[0]
    assert listens._voice is None, "the codec goes, too"


def test_a_module_that_cannot_be_heard_is_left_alone(tmp_path):
    from tests.core.training.small import Tiny

    assert not speaks(Tiny)
    trainer = fit(Tiny(), [listen(tmp_path / "samples")], tmp_path, steps=2)
    assert not [name for name in trainer.callback_metrics if name.startswith("listen/")]
    assert not (tmp_path / "samples").exists()


def test_a_budget_keeps_to_its_share():
    now = [0.0]
    budget = TimeBudget(0.1, clock=lambda: now[0])
    with budget.spend(counts=False):
        now[0] += 1.0
    assert budget.done == 0
    costs = []
    for _ in range(300):  # a validation every 4 seconds, and work of 2 seconds, 5 the first time
        now[0] += 4.0
        if budget.allows():
            with budget.spend():
                now[0] += 2.0 if costs else 5.0
            costs.append(now[0])
            assert budget.share <= 0.1 or len(costs) == 1
    assert costs[0] == 10.0, "the first time is not waited for"
    assert costs[1] >= (1 + 5 + 5) / 0.1, "and then what was spent and what the last one cost must be earned"
    assert 0.09 < budget.share <= 0.1
    assert budget.done + budget.left_out == 300
    assert budget.allows(needed=True)


def test_loops_are_found_and_speech_is_none():
    speech = np.random.default_rng(0).integers(0, 4096, 400).tolist()
    assert longest_loop(speech, longest_period=160) == 0
    assert longest_loop([*speech[:50], *speech[50:60] * 4, *speech[60:]], longest_period=160) == 40
    assert longest_loop([*speech[:50], *speech[50:60] * 2, *speech[60:]], longest_period=160) == 0
    assert longest_loop([5] * 30, longest_period=160) == 30
    assert longest_loop([], longest_period=160) == 0


def test_each_guard_finds_its_fault():
    passage = Passage(name="a", text="Twenty characters ok", tokens=40)
    spoken = np.random.default_rng(0).permutation(40).tolist()

    def found(sound, tokens, *, ended=True):
        faults = judge(passage, Uttered(sound=sound, tokens=tokens, ended=ended), tokens_per_second=TOKENS)
        return [name for name, wrong in faults.items() if wrong]

    assert found(tone(2.0), spoken) == []
    assert found(tone(2.0), [*range(10), *([1, 2, 3] * 10)]) == ["repetition"]
    assert found(tone(0.8), spoken[:16]) == ["swallowed"]
    silence = Sound(np.zeros(2 * RATE, np.float32), RATE)
    assert found(silence, spoken) == ["swallowed"]
    assert found(Sound(np.zeros(0, np.float32), RATE), []) == ["swallowed"]
    assert found(tone(5.0), np.random.default_rng(0).permutation(100).tolist(), ended=False) == ["runaway"]
    assert most_tokens(passage, tokens_per_second=TOKENS) == 100


def test_languages_take_turns():
    assert take_turns(["en", "en", "de", "en", "de"], 3) == [0, 2, 1]
    assert take_turns([None] * 3, 5) == [0, 1, 2]


def test_wrong_options_are_named():
    for options, told in (
        ({"sentences": -1}, "listen.sentences"),
        ({"every_n_steps": 0}, "every_n_steps"),
        ({"max_share": 0}, "max_share"),
    ):
        with pytest.raises(ConfigError, match=told):
            ListenOptions(**options)
    with pytest.raises(ConfigError, match=r"--listen\.metrics loudness"):
        Scorer(["loudness"])
