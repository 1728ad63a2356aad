"""What ``tts-train plan`` says of every recipe that is measured, made on a CPU before a card is rented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_blocks import recipes, sovits
from gpu_blocks.fits import FitError, command
from gpu_blocks.job import FULL, ROOT, words_of
from gpu_blocks.versions import revision

PLANS = "plans.json"
KEPT = ("peak_bytes", "needed_bytes")


def write_plans(carried: Path) -> None:
    """Plan every run of steps 6 and 10, and write the file after each."""
    plans: dict[str, Any] = {}
    for name, words in _wanted():
        try:
            _, printed, _ = command(["plan", *words, "--json"], expected=None)
            told = json.loads(printed.strip().splitlines()[-1])
        except (FitError, ValueError, IndexError) as error:
            print(f"{name} has no plan: {error}", flush=True)
            continue
        plans[name] = {key: told[key] for key in KEPT if key in told}
        print(f"{name}: {told['peak_bytes'] / 2**30:.2f} GiB, {told['needed_bytes'] / 2**30:.2f} in all", flush=True)
        (carried / PLANS).write_text(json.dumps({"revision": revision(), "plans": plans}), encoding="utf-8")


def _wanted() -> Iterator[tuple[str, list[str]]]:
    for run in recipes.RUNS:
        path = ROOT / "configs" / "orpheus" / f"{run.recipe}.yaml"
        yield run.name, ["-c", str(path), *words_of(FULL), "--data.max_tokens", str(run.tokens), *run.words]
    for stage in sovits.RUNS:
        path = ROOT / "configs" / "gpt_sovits" / f"{stage.recipe}.yaml"
        sizes = ["--model.init_from", "tiny", *sovits.GPT] if stage.stage in ("gpt", "dpo") else []
        yield stage.recipe, ["-c", str(path), *sizes]
