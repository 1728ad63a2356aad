"""Step 5: a run that is killed and continued is, bit for bit, the run that was not."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_blocks.fits import quiet_words
from gpu_blocks.job import Job, threads, words_of
from gpu_blocks.processes import Chain, run_chains
from gpu_blocks.sets import gpt_rows, orpheus_rows, sovits_rows
from gpu_blocks.timing import limit
from gpu_blocks.weights import precision_of

STEPS, KILLED, EVERY = 12, 7, 3
INTERRUPTED = 75
"""Exit code of a command that was asked to stop and has saved itself."""
_FULL = ("--model.method", "full", "--trainer.precision", "bf16-true", "--model.optimizer.name", "adamw8bit")
_STREAMED = (
    *("--model.optimizer.in_backward", "true", "--model.optimizer.rounding", "stochastic"),
    *("--trainer.gradient_clip_val", "null"),
)


@dataclass(frozen=True)
class Case:
    """One kind of run."""

    backend: str
    stage: str
    words: tuple[str, ...] = ()
    faults: tuple[str, ...] = (f"kill@step={KILLED}",)
    dry: bool = False


CASES = {
    "sovits": Case("gpt_sovits", "sovits", ("--trainer.precision", "16-mixed")),
    "qlora": Case(
        "orpheus", "lm", ("--model.method", "qlora", "--model.lora.rank", "8", "--trainer.precision", "bf16-mixed")
    ),
    "gpt": Case("gpt_sovits", "gpt", ("--trainer.precision", "bf16-mixed")),
    "full, in backward, stochastic": Case("orpheus", "lm", (*_FULL, *_STREAMED), dry=True),
    "full, in backward, offloaded": Case("orpheus", "lm", (*_FULL, *_STREAMED, "--model.optimizer.offload", "true")),
    "lora": Case(
        "orpheus",
        "lm",
        ("--model.method", "lora", "--model.lora.rank", "8", "--trainer.precision", "bf16-mixed"),
        (f"kill@step={KILLED}", "kill@save=4", f"term@step={KILLED}"),
    ),
}


LEAST_SECONDS = 15
"""Less is not worth a second turn."""


def run(job: Job) -> None:
    """Run all kinds side by side, and on a card once more with the determinism of torch where one was not exact."""
    end = time.monotonic() + job.left()
    cases = {name: case for name, case in CASES.items() if case.dry or not job.tiny}
    for name in set(CASES) - set(cases):
        job.record.skipped(name, "one case is enough for a dry run")
    inexact = _compare(job, cases, "by default", (), end)
    if not inexact:
        return
    how = "with --trainer.deterministic true"
    if end - time.monotonic() < LEAST_SECONDS:
        job.record.skipped(f"{', '.join(inexact)}, {how}", "no time is left")
        return
    _compare(job, {name: cases[name] for name in inexact}, how, ("--trainer.deterministic", "true"), end)


def _compare(job: Job, cases: dict[str, Case], how: str, more: tuple[str, ...], end: float) -> list[str]:
    """Write for each kind and fault, as soon as both runs are over, whether their checkpoints are equal.

    Args:
        job: Device and folders.
        cases: The kinds.
        how: What to call this turn.
        more: Options of this turn.
        end: When all of it must be over (``time.monotonic``).

    Returns:
        The kinds that came to their end and were not equal.
    """
    data = _data(job)
    place = job.folder(how.split()[-1])
    chains: dict[str, Chain] = {}
    whole: dict[str, Chain] = {}
    # Those that an H200 had no time for come first, and broken runs, which are two commands each, before whole ones.
    for name, case in cases.items():
        words = [*command_words(job, case, data), *more]
        folder = place / name.replace(",", "").replace(" ", "-")
        for fault in case.faults:
            run = folder / fault.replace("@", "-").replace("=", "-")
            chains[f"{name}, {fault}"] = _broken([*words, "--run_dir", str(run)], run, fault)
        whole[name] = _whole([*words, "--run_dir", str(folder / "whole")], folder / "whole")
    chains |= whole
    pairs = {f"{name}, {fault}": name for name, case in cases.items() for fault in case.faults}
    results: dict[str, Any] = {}
    inexact = set()

    def over(ended: str, result: Any) -> None:
        results[ended] = result
        for pair, name in list(pairs.items()):
            if name in results and pair in results:
                del pairs[pair]
                one, other = results[name], results[pair]
                found = [each for each in (one, other) if isinstance(each, Exception)]
                equal = not found and one == other
                value = str(found[0]) if found else _difference(one, other)
                job.record.criterion(f"{pair}, {how}", equal, value, goal="equal model and optimizer")
                if not equal and not found:
                    inexact.add(name)

    told = {name: _told(name, chain, over) for name, chain in chains.items()}
    try:
        with limit(max(1.0, end - time.monotonic())):
            run_chains(told, most=max(2, threads() - 2), log=job.out / "log.txt")
    except TimeoutError as error:
        for process in multiprocessing.active_children():
            process.kill()
        for pair, name in pairs.items():
            late = " and ".join(each for each in (name, pair) if each not in results)
            job.record.criterion(f"{pair}, {how}", False, f"{error}: {late}", goal="equal model and optimizer")
    return sorted(inexact)


def _told(name: str, chain: Chain, over: Callable[[str, Any], None]) -> Chain:
    """Say how a chain ended when it does, not when all have."""
    try:
        result = yield from chain
    except Exception as error:
        over(name, error)
        raise
    over(name, result)
    return result


def _whole(words: list[str], run: Path) -> Chain:
    code = yield words
    _expect(code, 0, words)
    return hashes(run)


def _broken(words: list[str], run: Path, fault: str) -> Chain:
    code = yield [*words, "--debug.inject", fault]
    _expect(code, INTERRUPTED if fault.startswith("term") else -signal.SIGKILL, words)
    code = yield words
    _expect(code, 0, words)
    return hashes(run)


def _expect(code: int, expected: int, words: list[str]) -> None:
    if code != expected:
        raise RuntimeError(f"tts-train {' '.join(words[:4])} ... ended with {code}, not {expected}")


def hashes(run: Path) -> dict[str, str]:
    """Return the hashes of the files of tensors in a run's last checkpoint, as its manifest has them."""
    from tts_train.checkpoints.folder_io import read_manifest
    from tts_train.run.directory import RunDirectory

    directory = RunDirectory(run)
    step = directory.steps()[-1]
    files = read_manifest(directory.step_path(step))["files"]
    return {
        "step": str(step),
        **{name: file["xxh3_128"] for name, file in files.items() if name.endswith(".safetensors")},
    }


def _difference(whole: Any, broken: Any) -> str:
    names = sorted(name for name in {*whole, *broken} if whole.get(name) != broken.get(name))
    return f"differ: {', '.join(names)}" if names else f"equal: {', '.join(sorted(whole))}"


def _data(job: Job) -> dict[str, str]:
    folder = job.folder("data")
    made = {"lm": orpheus_rows(folder, tokens=130 if job.tiny else 1100, batches=STEPS)[0]}
    made["gpt"] = gpt_rows(folder, count=24, tiny=True)
    made["sovits"] = sovits_rows(folder, count=16, tiny=True)
    return made


def command_words(job: Job, case: Case, data: dict[str, str]) -> list[str]:
    """Return a whole command without its ``--run_dir``."""
    sizes = {"lm": words_of(job.small)}.get(case.stage, ["--model.init_from", "tiny"])
    batch = {"lm": ["--data.max_tokens", "130" if job.tiny else "1100"], "gpt": ["--data.max_tokens", "256"]}
    words = ["fit", "--backend", case.backend, "--stage", case.stage, *quiet_words(job), *sizes]
    words += ["--data.path", data[case.stage], *batch.get(case.stage, []), "--trainer.max_steps", str(STEPS)]
    words += ["--trainer.max_epochs", "100", "--checkpoint.every_n_steps", str(EVERY)]
    place = list(case.words)
    if "--trainer.precision" in place:
        at = place.index("--trainer.precision") + 1
        place[at] = precision_of(place[at], job)
    return [*words, *place]
