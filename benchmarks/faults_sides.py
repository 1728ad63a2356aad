"""What is killed: `tts-train fit`, Hugging Face's Trainer and plain Lightning, the latter two on the toy's network.

Each continues as its own documentation says: ours by the same command, `Trainer` by `get_last_checkpoint` as in the
example scripts, Lightning by `ckpt_path="last"`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

BINS, WIDTH = 128, 256
"""Of the toy: 65,000 weights, 0.8 MB a checkpoint with the optimiser's states."""
TEXT = " ".join(f"{word} hums tone {n} of a little tune" for n, word in enumerate(["fox", "dog", "owl", "bee"] * 2))
SCALE = 8
"""Mebibytes of a disk on which these runs fit, and little else."""


@dataclass(frozen=True)
class Plan:
    """How a run is to go; the same for every side."""

    steps: int = 40
    every: int = 1
    lr: float = 0.01
    nan_at: tuple[int, ...] = ()
    inject: str | None = None
    """``--debug.inject``; only ours."""
    more: tuple[str, ...] = ()
    """Further words; only ours."""


def steps_of(folder: Path) -> Path:
    """Where the steps of a run are written: beside its folder, whose disk may be full."""
    return folder.with_name(f"{folder.name}.steps")


def final_of(folder: Path) -> Path:
    """Where it is written what a run came to."""
    return folder.with_name(f"{folder.name}.final.json")


def note(folder: Path, word: str) -> None:
    """Write a line of the steps taken, at once."""
    with steps_of(folder).open("a", encoding="ascii") as file:
        file.write(f"{word}\n")


def steps_done(folder: Path) -> int:
    """Return the last optimiser step that a run has finished."""
    path = steps_of(folder)
    words = path.read_text(encoding="ascii").split() if path.exists() else []
    return next((int(word) for word in reversed(words) if word.isdigit()), 0)


def started_at(folder: Path) -> int:
    """Return the step from which the last process of a run went on."""
    words = steps_of(folder).read_text(encoding="ascii").split()
    return int([word for word in words if word.startswith("from:")][-1][5:])


def final(folder: Path) -> dict[str, Any]:
    """Return what a run came to, or nothing."""
    path = final_of(folder)
    return dict(json.loads(path.read_text(encoding="ascii"))) if path.exists() else {}


def weights_hash(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a hash of named weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def finish(folder: Path, weights: Mapping[str, torch.Tensor], *, step: int, lr: float) -> None:
    """Write what a run came to."""
    finite = all(bool(torch.isfinite(w).all()) for w in weights.values() if w.is_floating_point())
    told = {"weights": weights_hash(weights), "step": step, "lr": lr, "finite": finite}
    final_of(folder).write_text(json.dumps(told), encoding="ascii")


class StepLog(Callback):
    """Writes each finished step into the run's folder, before anything is saved."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write where this process goes on."""
        note(Path(trainer.default_root_dir), f"from:{trainer.global_step}")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Write the step."""
        note(Path(trainer.default_root_dir), str(trainer.global_step))


@dataclass(frozen=True)
class Side:
    """Something that trains in a folder and, asked again, continues."""

    name: str
    pattern: str
    """Where checkpoints are found in the folder."""
    plan: Plan = field(default_factory=Plan)

    def train(self, folder: Path, plan: Plan) -> None:
        """Train, or continue, in this process."""
        raise NotImplementedError

    def saved(self, folder: Path) -> list[Path]:
        """Return the checkpoints that are there, in the order of their steps."""
        found = [path for path in folder.glob(self.pattern) if any(c.isdigit() for c in path.stem)]
        return sorted(found, key=lambda path: int("".join(filter(str.isdigit, path.stem))))

    def newest(self, folder: Path) -> Path:
        """Return the checkpoint that this side will continue from."""
        return self.saved(folder)[-1]

    def files(self, checkpoint: Path) -> dict[str, Path]:
        """Return a checkpoint's files by what is in them."""
        raise NotImplementedError

    def changed(self, **changes: Any) -> Plan:
        """Return the side's plan with changes."""
        return replace(self.plan, **changes)


@dataclass(frozen=True)
class Ours(Side):
    """`tts-train fit`."""

    pattern: str = "checkpoints/step-*[0-9]"
    words: Sequence[str] = ()

    def command(self, folder: Path, plan: Plan) -> list[str]:
        """Return the words after ``tts-train``."""
        inject = ",".join([*([plan.inject] if plan.inject else []), *(f"nan@step={n}" for n in plan.nan_at)])
        return [
            "fit", *self.words, "--run_dir", str(folder), "--trainer.accelerator", "cpu", "--trainer.logger", "false",
            "--trainer.enable_progress_bar", "false", "--trainer.max_steps", str(plan.steps), "--trainer.max_epochs",
            "-1", "--checkpoint.every_n_steps", str(plan.every), "--trainer.callbacks+=faults_sides.StepLog",
            *(["--debug.inject", inject] if inject else []), *plan.more,
        ]  # fmt: skip

    def train(self, folder: Path, plan: Plan) -> None:
        """Run the command, and read what it left."""
        from tts_train.cli import main

        if code := main(self.command(folder, plan)):
            raise SystemExit(code)
        self.read(folder)

    def files(self, checkpoint: Path) -> dict[str, Path]:
        """Every file of the directory."""
        return {path.name: path for path in sorted(checkpoint.iterdir())}

    @staticmethod
    def read(folder: Path) -> None:
        """Write what a finished run came to."""
        from tts_train.run.checkpoint import open_checkpoint

        kept = open_checkpoint(folder)
        state = kept.state("optimizer_states")["optimizer_states"][0]
        finish(folder, kept.weights(), step=kept.step, lr=float(state["param_groups"][0]["lr"]))


@dataclass(frozen=True)
class Toy(Ours):
    """Ours with the toy backend, whose learning rate is an option of the model."""

    words: Sequence[str] = (
        "--backend", "toy", "--model.bins", str(BINS), "--model.width", str(WIDTH), "--data.text", TEXT,
    )  # fmt: skip

    def command(self, folder: Path, plan: Plan) -> list[str]:
        """Add the learning rate."""
        return [*super().command(folder, plan), "--model.lr", str(plan.lr)]


def ready(folder: Path) -> None:
    """Make the folder in which a peer trains."""
    folder.mkdir(parents=True, exist_ok=True)
