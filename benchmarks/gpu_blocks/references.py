"""Losses on a CPU and the files they start from, so that a card is compared from the same bytes.

What is random on a card is not what it is on a CPU, so weights come from files, SoVITS draws by utterance, and nothing
is dropped out.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from gpu_blocks.fits import command, fit, quiet_words, release
from gpu_blocks.job import Job
from gpu_blocks.sets import gpt_rows, orpheus_rows, sovits_rows
from gpu_blocks.versions import revision

STEPS, SLOW_STEPS, DRY_STEPS = 20, 4, 2
BASES, LOSSES = "bases", "references.json"
CARRIED = ("orpheus", "gpt")
"""Bases that travel; those of SoVITS have 40 and 350 MB."""
SIZES = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 192}
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Case:
    """One stage and method."""

    backend: str
    stage: str
    base: str
    data: str
    words: tuple[str, ...] = ()
    steps: int = STEPS
    kinds: tuple[str, ...] = tuple(PRECISIONS)


# A rate at which a difference of one bit stays one: at 0.01, Adam's first steps are as large as the adapters
# themselves, and 1e-7 of their first weights grows to 1e-2 of the loss within these 20 steps, on a CPU alone.
_LORA = ("--model.lora.rank", "8", "--model.optimizer.lr", "0.001")
CASES = {
    "orpheus full": Case("orpheus", "lm", "orpheus", "lm", ("--model.optimizer.lr", "0.001")),
    "orpheus lora": Case("orpheus", "lm", "orpheus", "lm", ("--model.method", "lora", *_LORA)),
    "orpheus qlora": Case("orpheus", "lm", "orpheus", "lm", ("--model.method", "qlora", *_LORA)),
    "gpt": Case("gpt_sovits", "gpt", "gpt", "gpt", ("--model.dropout", "0")),
    "dpo": Case("gpt_sovits", "dpo", "gpt", "gpt", ("--model.dropout", "0", "--data.pairs", "made")),
    # Not carried, so a CPU makes theirs while the card waits: a step of one takes a second there, of the other five.
    "sovits": Case("gpt_sovits", "sovits", "sovits", "sovits", steps=SLOW_STEPS),
    "cfm": Case("gpt_sovits", "cfm", "cfm", "sovits", steps=SLOW_STEPS, kinds=("float32",)),
}


def write_references(carried: Path) -> None:
    """Make the small bases and their data, train from them on this CPU, and write the losses."""
    work = carried / "work"
    job = Job(block="references", device="cpu", tiny=False, out=carried, work=work, carried=carried)
    write_bases(job, carried / BASES)
    pairs = [(name, kind) for name, case in CASES.items() if case.base in CARRIED for kind in case.kinds]
    losses = {f"{name}, {kind}": losses_of(job, name, kind) for name, kind in pairs}
    words = {name: list(CASES[name].words) for name, _ in pairs}
    told = {"revision": revision(), "torch": torch.__version__, "words": words, "losses": losses}
    (carried / LOSSES).write_text(json.dumps(told), encoding="utf-8")
    shutil.rmtree(work, ignore_errors=True)
    (carried / "results.jsonl").unlink(missing_ok=True)


def fit_these(words: dict[str, list[str]]) -> bool:
    """Tell whether references were made with the options that their cases have now."""
    return bool(words) and all(name in CASES and each == list(CASES[name].words) for name, each in words.items())


def write_bases(job: Job, folder: Path) -> None:
    """Write the weights and the data that both sides start from."""
    from safetensors.torch import save_file

    from tts_train.families.token_lm.network.start import TinyOptions, load_base
    from tts_train_orpheus.model import ORPHEUS

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lm = load_base(ORPHEUS, "tiny", tiny=TinyOptions(**SIZES))
    # Eight bits a weight: three quarters of the file would be digits that nothing depends on.
    small = {name: value.to(torch.float8_e4m3fn) for name, value in lm.state_dict().items() if name != "lm_head.weight"}
    save_file(small, folder / "orpheus.safetensors")
    lm.config.save_pretrained(folder / "orpheus")
    orpheus_rows(folder, tokens=260, batches=STEPS)
    gpt_rows(folder, count=40, tiny=True)
    sovits_rows(folder, count=16, tiny=True)
    _one_step(job, "gpt", folder / "gpt.parquet", folder / "gpt")


def base_of(job: Job, case: Case) -> Path:
    """Return what a case starts from; what is too large to be carried is made on this machine's CPU, once."""
    folder = job.carried / BASES
    if case.base == "orpheus":
        return _unpacked(job, folder)
    if case.base in CARRIED:
        return folder / case.base
    made = job.work / "bases" / case.base
    if not made.exists():
        _one_step(dataclasses.replace(job, device="cpu"), case.base, folder / "sovits-v2", made)
    return made


def _one_step(job: Job, stage: str, data: Path, target: Path) -> None:
    """Write a run of one step, whose checkpoint is a base of that stage."""
    run = job.folder(stage)
    words = ["fit", "--backend", "gpt_sovits", "--stage", stage, *quiet_words(job), "--run_dir", str(run)]
    words += ["--data.path", str(data), "--model.init_from", "tiny", "--trainer.max_steps", "1"]
    command([*words, "--trainer.precision", "32-true", "--trainer.logger", "false"])
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("logs", "samples", "*.html"), symlinks=True)


def losses_of(job: Job, name: str, kind: str) -> list[dict[str, float]]:
    """Train a case from its base on the job's device and return the losses of each batch."""
    case, last = CASES[name], DRY_STEPS if job.tiny else CASES[name].steps
    folder = job.carried / BASES
    data = {"lm": folder / "rows.parquet", "gpt": folder / "gpt.parquet", "sovits": folder / "sovits-v2"}[case.data]
    words = command_words(case, kind, base_of(job, case), data)
    with drawn_alike(exact=kind == "float32"):
        measured = fit(job, words, name="run", last=last, losses=True, warm=1)
    losses = measured.read_losses()
    release(job, measured)
    return losses


def command_words(case: Case, kind: str, base: Path, data: Path) -> list[str]:
    """Return what is given to ``tts-train fit``."""
    batch = {"lm": "260", "gpt": "512"}.get(case.data)
    words = ["--backend", case.backend, "--stage", case.stage, "--model.init_from", str(base)]
    words += ["--data.path", str(data), "--trainer.precision", PRECISIONS[kind]]
    words += ["--data.max_tokens", batch] if batch else []
    return [*words, "--trainer.accumulate_grad_batches", "1", *case.words]


def _unpacked(job: Job, folder: Path) -> Path:
    """Return a base folder as a user has it, made from the eight-bit file once."""
    from safetensors.torch import load_file, save_file

    base = job.work / "orpheus-base"
    if not (base / "model.safetensors").exists():
        base.mkdir(parents=True, exist_ok=True)
        (base / "config.json").write_bytes((folder / "orpheus" / "config.json").read_bytes())
        weights = {name: value.float() for name, value in load_file(folder / "orpheus.safetensors").items()}
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    return base


@contextmanager
def drawn_alike(*, exact: bool = False) -> Iterator[None]:
    """Let SoVITS and its flow matching draw by utterance, on the CPU, and drop nothing.

    Args:
        exact: Whether float32 is multiplied in full: by default a card's convolutions round it to 10 bits (TF32).
    """
    from tts_train_gpt_sovits.stages.sovits.batch import fixed_draws
    from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
    from tts_train_gpt_sovits.stages.sovits.module import SovitsModule

    generate, losses = SovitsModule._generate, CfmModule._losses

    def generated(self: Any, batch: Any, **_: Any) -> Any:
        _without_dropout(self)
        latent = self._built.posterior_encoder.output.out_channels // 2
        starts, noise = fixed_draws(batch, latent=latent, frames=self.segment_frames, device=self.device)
        return generate(self, batch, starts=starts, noise=noise)

    def flowed(self: Any, batch: Any, **_: Any) -> Any:
        _without_dropout(self)
        return losses(self, batch, **self._draws(batch))

    with ExitStack() as stack:
        stack.enter_context(patch.object(SovitsModule, "_generate", generated))
        stack.enter_context(patch.object(CfmModule, "_losses", flowed))
        if exact:
            stack.enter_context(_without_tf32())
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def _without_dropout(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0  # type: ignore[assignment]
