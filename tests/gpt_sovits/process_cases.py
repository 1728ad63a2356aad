"""Small runs of every stage of GPT-SoVITS as one process or as one of two, through the real session and checkpoints.

A global batch is four utterances: one process takes them together, two take two each.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from tests.core.pair import note, ranks
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.errors import ConfigError
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.parallel.processes import leave
from tts_train.run.checkpoint import RunCard
from tts_train.run.directory import RunDirectory
from tts_train.sharding.fsdp import FsdpStrategy
from tts_train.sharding.options import FsdpOptions
from tts_train.training.session import RunSession
from tts_train.training.survive.checkpoint import CheckpointOptions
from tts_train_gpt_sovits.plugin import tts_train_backend, tts_train_strategy
from tts_train_gpt_sovits.stages.gpt.batches import RehearsalOptions
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.stages.sovits.batch import fixed_draws
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.module import SovitsModule
from tts_train_gpt_sovits.starts.adapters import GptLoraOptions

TOGETHER = 4
CODES = 22
STAGES = {stage.name: stage for stage in tts_train_backend().stages}
STANDARD = {"optimizer_kind": "standard", "optimizer": {"lr": 3e-3}, "schedule": {"name": "constant"}}

warnings.filterwarnings("ignore", module="lightning")


@dataclass(frozen=True)
class Case:
    """One run; ``model`` and ``data`` are arguments of the stage's classes."""

    stage: str
    strategy: str = "auto"
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    fsdp: dict[str, Any] = field(default_factory=dict)
    clip: float | None = None


class _Shared:
    """Two global batches an epoch, the same ones in each; what is cut from a batch goes to the next process."""

    def train_batches(self, epoch):
        lap = epoch * len(self.train_set) if isinstance(self, GptData) else 0
        return self._dealt(range(lap, lap + 2 * TOGETHER))

    def val_batches(self):
        return self._dealt(range(2 * TOGETHER))

    def _dealt(self, rows):
        size = TOGETHER // self._ranks()[1]
        return [list(rows[at : at + size]) for at in range(0, len(rows), size)]


class Texts(_Shared, GptData):
    """Utterances of different lengths, so that means over tokens are not means over batches."""


class Mixed(Texts):
    """The set's own pairs for one process, rehearsal, which comes after them, for the other."""

    def train_batches(self, epoch):
        count = len(self.train_set)
        return [[row + epoch * count, row + 1 + epoch * count] for row in (0, count - 2, 2, count - 2)]

    def val_batches(self):
        return [[0, 1], [len(self.val_set) - 1]]


class Sounds(_Shared, SovitsData):
    """Utterances of one length: the adversarial losses are means over a process's batch."""

    def collate(self, rows):
        cut = CODES * 2 * 640
        return super().collate([replace(row, codes=row.codes[:CODES], wave=row.wave[:cut]) for row in rows])


class FixedSovits(SovitsModule):
    """Draws by utterance, not by process."""

    def configure_model(self):
        super().configure_model()
        _without_dropout(self)

    def _generate(self, batch, **_given):
        latent = self._built.posterior_encoder.output.out_channels // 2
        starts, noise = fixed_draws(batch, latent=latent, frames=self.segment_frames, device=self.device)
        return super()._generate(batch, starts=starts, noise=noise)


class FixedCfm(CfmModule):
    """Draws by utterance, not by process."""

    def configure_model(self):
        super().configure_model()
        _without_dropout(self)

    def _losses(self, batch, **_given):
        return super()._losses(batch, **self._draws(batch))


class Seen(Callback):
    """Notes the training losses of each step and the figures of each validation."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(_figures(trainer, "train/"))

    def on_validation_end(self, trainer, pl_module):
        self.validations.append(_figures(trainer, "val/"))


def train(case: Case, folder: Path, *, steps: int = 4) -> dict[str, Any]:
    """Train, or continue, and return what was seen, or the message of a refusal."""
    module, data = _module(case), _data(case)
    card = RunCard(backend="gpt_sovits", stage=case.stage, config={"model": {"init_from": "tiny", **case.model}})
    seen = Seen()
    try:
        with RunSession(RunDirectory(folder), card, seed=5) as session:
            trainer = Trainer(
                accelerator="cpu",
                devices=ranks(),
                strategy=_strategy(case),
                plugins=[DirectoryCheckpointIO()],
                callbacks=[*session.callbacks(CheckpointOptions(every_n_steps=2, monitor=None)), seen],
                max_steps=steps,
                max_epochs=-1,
                gradient_clip_val=case.clip,
                num_sanity_val_steps=0,
                log_every_n_steps=1,
                use_distributed_sampler=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                logger=False,
                default_root_dir=folder,
            )
            session.fit(trainer, module, data)
    except ConfigError as error:
        return {"refused": str(error)}
    return {"steps": seen.steps, "validations": seen.validations}


def main(words: list[str]) -> None:
    """Run the calls, JSON of ``train``'s arguments, one after another."""
    folder, results = Path(words[0]), []
    for word in words[1:]:
        call = json.loads(word)
        results.append(train(Case(**call["case"]), folder / call["run"]))
        note(folder, results)


def _module(case: Case) -> Any:
    made = {
        "optimizer": lambda given: OptimizerOptions(**given),
        "schedule": lambda given: ScheduleOptions(**given),
        "lora": lambda given: GptLoraOptions(**given),
    }
    options = {name: made[name](value) if name in made else value for name, value in case.model.items()}
    kind = {"gpt": GptModule, "dpo": DpoModule, "sovits": FixedSovits, "cfm": FixedCfm}[case.stage]
    return kind(**options, **({"dropout": 0.0} if case.stage in ("gpt", "dpo") else {}))


def _data(case: Case) -> Any:
    options = dict(case.data)
    if case.stage in ("sovits", "cfm"):
        return Sounds(options["path"], val_path=options["path"], batch_size=TOGETHER)
    rehearsal = options.pop("rehearsal", None)
    if rehearsal:
        return Mixed(**options, rehearsal=RehearsalOptions(path=rehearsal, val_share=0.5))
    return Texts(**options)


def _strategy(case: Case) -> Any:
    stage = STAGES[case.stage]
    if case.strategy == "fsdp":
        return FsdpStrategy(stage.sharding, FsdpOptions(**case.fsdp))
    return tts_train_strategy(stage, case.strategy) or case.strategy


def _figures(trainer: Trainer, prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}


def _without_dropout(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0


if __name__ == "__main__":
    main(sys.argv[1:])
    leave(0)
