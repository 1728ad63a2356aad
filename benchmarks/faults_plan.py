"""Which faults meet which side, and how often: the plan of F1 to F16."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faults_ours as own
import faults_trials as trial
from faults_peers import HuggingFace, Lightning
from faults_sides import Ours, Side, Toy
from faults_stages import STEPS, make

TOY = Toy("tts-train")
PEERS: tuple[Side, ...] = (HuggingFace("HF Trainer"), Lightning("Lightning"))


@dataclass(frozen=True)
class Trial:
    """One trial."""

    fault: str
    side: Side | None
    work: Callable[..., dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    same: bool = False
    """Whether TMPDIR is on the file system of the run."""


def groups(disk: Path, *, share: float, only: list[str] | None) -> tuple[list[Side], list[Trial]]:
    """Return the sides to run without a fault first, and the trials, in the order of what they tell."""
    stages = make(disk / "sets")
    corpus = own.corpus_of(disk / "corpus", 32)
    makers = (
        _kills(share), _rest(), _signals(share), _stages(stages, share), _damage(), _own(), _prepare(corpus, share),
    )  # fmt: skip
    trials = [one for made in makers for one in made if only is None or one.fault in only]
    wanted = {one.side.name: one.side for one in trials if one.side is not None}
    return list(wanted.values()), trials


def _count(number: int, share: float) -> int:
    return max(1, round(number * share))


def _kills(share: float) -> Iterator[Trial]:
    for part in trial.parts(_count(50, share), seed=1):
        yield Trial("F1", TOY, trial.kill, {"part": part})
    for peer in PEERS:
        for part in trial.parts(_count(25, share), seed=1):
            yield Trial("F1", peer, trial.kill, {"part": part})
    same = replace(PEERS[1], name="Lightning, TMPDIR on the run's disk")
    for part in trial.parts(_count(20, share), seed=1):
        yield Trial("F1", same, trial.kill, {"part": part}, same=True)
    for file in range(1, _count(12, share) + 1):
        yield Trial("F2", TOY, trial.injected, {"fault": f"kill@save={file}"})


def _stages(stages: list[Ours], share: float) -> Iterator[Trial]:
    for stage in stages:
        step = 5
        yield Trial("F1 stages", stage, trial.injected, {"fault": f"kill@step={step}"})
        for file in (2, 6):
            yield Trial("F2 stages", stage, trial.injected, {"fault": f"kill@save={file}"})
        for part in trial.parts(_count(3, share), seed=STEPS):
            yield Trial("F1 stages", stage, trial.kill, {"part": part})


def _prepare(corpus: Path, share: float) -> Iterator[Trial]:
    for shards in (1, 4, 7)[: _count(3, share)]:
        yield Trial("F3", None, _Prepared(corpus), {"shards": shards})


@dataclass(frozen=True)
class _Prepared:
    corpus: Path

    def __call__(self, folder: Path, temporary: Path, *, shards: int) -> dict[str, Any]:
        whole = own.prepare(self.corpus, folder.with_name("whole"), temporary)
        return own.prepare_killed(self.corpus, whole, folder, temporary, shards=shards)


def _damage() -> Iterator[Trial]:
    files = ("model.safetensors", "optimizer.safetensors", "state.safetensors", "state.json", "MANIFEST.json")
    cuts = ("cut 0", "cut 50", "cut 99", "flip 50", "gone")
    ours = [(file, how) for file in files for how in cuts] + [(files[0], "cut 1"), (files[0], f"swap {files[1]}")]
    hf = [(file, how) for file in ("model.safetensors", "optimizer.pt", "trainer_state.json") for how in cuts]
    lightning = [("last.ckpt", how) for how in (*cuts, "flip 30", "flip 70", "cut 1")]
    for side, damages in ((TOY, ours), (PEERS[0], hf), (PEERS[1], lightning)):
        for file, how in damages:
            yield Trial("F4", side, trial.damage, {"file": file, "how": how})


def _signals(share: float) -> Iterator[Trial]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    for i, part in enumerate(trial.parts(_count(12, share), seed=10)):
        yield Trial("F10", TOY, trial.signalled, {"number": int(numbers[i % 3]), "part": part})
    for peer in PEERS:
        for part in trial.parts(_count(4, share), seed=10):
            yield Trial("F10", peer, trial.signalled, {"number": int(signal.SIGTERM), "part": part})


def _rest() -> Iterator[Trial]:
    for side, times in ((TOY, 3), (PEERS[0], 1), (PEERS[1], 1)):
        for _ in range(times):
            yield Trial("F5", side, trial.full_disk)
        yield Trial("F5 before", side, trial.no_room)
        for at in ((6,), (6, 7, 8)):
            yield Trial("F12", side, trial.not_finite, {"at": at})
        for _ in range(5 if side is TOY else 2):
            yield Trial("F8", side, trial.two_writers)
        yield Trial("F15", side, trial.other_rate)


def _own() -> Iterator[Trial]:
    yield Trial("F6", None, own.malformed)
    yield Trial("F7", None, own.hostile)
    for part in (0.1, 0.5, 0.8):
        yield Trial("F1 command lines", TOY, own.command_line, {"part": part})
    yield Trial("F16", TOY, own.two_ranks)
    for _ in range(2):
        yield Trial("F9", TOY, own.times_shuffled)
        yield Trial("F11", TOY, own.worker_killed)
    yield Trial("F14", TOY, own.read_only)
    refusals = {"model.bins": "64", "data.text": "quite another text, and long enough for lines of letters to train on"}
    for key, value in refusals.items():
        yield Trial("F15 refused", TOY, own.refused, {"words": (f"--{key}", value), "key": key})
