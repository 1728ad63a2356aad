"""Step 6: every recipe of the 3.3 B model through ``fit``'s own callbacks: speed, memory, and the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpu_blocks.arithmetic import share_of_peak
from gpu_blocks.fits import fit, release
from gpu_blocks.job import ROOT, Job, words_of
from gpu_blocks.sets import orpheus_rows
from gpu_blocks.watch import GIB, Measured
from gpu_blocks.weights import orpheus_on

SECONDS = 30
"""Most that one recipe may take on a card: an H200 took 9 to 16 s each, and the first compiles kernels."""
WITHIN = 0.05
"""How far the tensors at the peak may be from the plan's."""


@dataclass(frozen=True)
class Run:
    """A recipe at one size of the batch."""

    recipe: str
    tokens: int
    batches: int = 8
    share: float = 1.0
    """Of the layers that is recomputed."""
    more: tuple[str, ...] = ()
    """Options that it changes besides."""
    goal: int | None = None
    """Tokens a second that the project wants on an H100 (benchmarks/README.md, "On a card, by roofline").

    A goal goes with a share: that of the roofline's row, which the recipe took on the card it is for when it was set.
    """

    @property
    def name(self) -> str:
        """The key of its plan."""
        changed = "".join(f", {value}" for value in self.more[1::2])
        return f"{self.recipe} {self.tokens}{changed}" + ("" if self.share == 1 else f", share {self.share:g}")

    @property
    def words(self) -> list[str]:
        """What it changes of the recipe."""
        if not self.share:
            return [*self.more, "--model.gradient_checkpointing", "false"]
        return [*self.more, *(() if self.share == 1 else ("--model.checkpoint_share", f"{self.share:g}"))]


_EIGHT_BITS = ("--trainer.precision", "bf16-true", "--model.optimizer.name", "adamw8bit")
RUNS = (
    Run("lm-full-40gb", 8192),
    Run("lm-full-80gb", 8192),
    Run("lm-lora", 2048, 16, share=0.2, goal=18_000),
    Run("lm-lora", 8192, share=0, goal=22_000),
    Run("lm-full-24gb", 8192, 12, share=0.6, goal=20_000),
    Run("lm-full-16gb", 2048, share=0.75, goal=12_000),
    Run("lm-full-12gb", 2048),
    Run("lm-qlora", 2048),
    Run("lm-full-80gb", 8192, share=0, more=_EIGHT_BITS, goal=27_000),
    Run("lm-lora", 8192),
)
"""Those that no card has measured first. Those with more batches show what varied lengths do to the allocator."""
_DRY = {"lm-lora 2048, share 0.2", "lm-full-24gb 8192, share 0.6"}


def run(job: Job) -> None:
    """Run the recipes one after the other in this process; what ends the process leaves the rest to a further one."""
    for each in RUNS:
        if each.name in job.finished:
            continue
        if job.tiny and each.name not in _DRY:
            job.record.skipped(each.name, "one adapter and one full recipe are enough for a dry run")
            continue
        with job.record.part(each.name, limit=SECONDS if job.cuda else None):
            measured = measure(job, each)
            report(job, each.name, measured)
            hold_against_plan(job, each.name, measured)
            if each.goal and job.needs_card(f"{each.name}: of its goal"):
                job.record.figure(f"{each.name}: of the goal of {each.goal:,}", 100 * measured.speed / each.goal, "%")
            release(job, measured)


def measure(job: Job, each: Run, *more: str, batches: int | None = None, **asked: Any) -> Measured:
    """Train a recipe for some batches."""
    last = 4 if job.tiny else batches or each.batches
    tokens = 130 if job.tiny else each.tokens
    data, _ = orpheus_rows(job.folder("data"), tokens=tokens, batches=last)
    words = command_words(job, each, data, tokens, *more)
    with orpheus_on(job.device):
        return fit(job, words, name="run", last=last, **asked)


def command_words(job: Job, each: Run, data: str, tokens: int, *more: str) -> list[str]:
    """Return what is given to ``tts-train fit``."""
    recipe = ROOT / "configs" / "orpheus" / f"{each.recipe}.yaml"
    words = ["-c", str(recipe), *words_of(job.sizes), "--data.path", data, "--data.max_tokens", str(tokens)]
    return [*words, *each.words, *more]


def report(job: Job, name: str, measured: Measured) -> None:
    """Write a run's speed and memory."""
    record = job.record
    record.figure(f"{name}: tokens/s", measured.speed, "tokens/s")
    record.figure(f"{name}: where the time went", measured.phases, "s")
    share = share_of_peak(measured)
    if share is not None:
        record.figure(f"{name}: share of the card's bf16 peak", 100 * share, "%")
    write_memory(job, name, measured)


def write_memory(job: Job, name: str, measured: Measured) -> None:
    """Write what a run took of the card at its peak."""
    if not job.needs_card(f"{name}: memory"):
        return
    memory = {"tensors": measured.peak_bytes, "reserved": measured.reserved_bytes, "in use": measured.used_bytes}
    job.record.figure(f"{name}: memory", {key: round(value / GIB, 2) for key, value in memory.items()}, "GiB")


def hold_against_plan(job: Job, name: str, measured: Measured) -> None:
    """Compare a run on a card with its plan, if that was carried."""
    if not job.needs_card(f"{name}: against plan"):
        return
    plan = job.plans.get(name)
    if plan is None:
        job.record.skipped(f"{name}: against plan", "no plan was carried: make gpu-wheels")
        return
    against_plan(job, name, measured, plan)


def against_plan(job: Job, name: str, measured: Measured, plan: dict[str, Any]) -> None:
    """Hold the tensors at the peak against the plan's, and what the driver says is in use against its sum."""
    tensors, needed = plan["peak_bytes"], plan["needed_bytes"]
    off = measured.peak_bytes / tensors - 1
    goal = f"within {WITHIN:.0%} of the plan's {tensors / GIB:.2f} GiB"
    job.record.criterion(f"{name}: tensors at the peak", abs(off) <= WITHIN, measured.peak_bytes / GIB, goal=goal)
    goal = f"at most the plan's {needed / GIB:.2f} GiB in all"
    fits = measured.used_bytes <= needed
    job.record.criterion(f"{name}: card memory in use", fits, measured.used_bytes / GIB, goal=goal)
