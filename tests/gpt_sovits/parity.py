"""Recompute every figure of reference files with our own code: ``python -m tests.gpt_sovits.parity FILE.json…``"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from tests import parity
from tests.figures import Figure


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a figure and return 0 if all are within tolerance, else 1."""
    return parity.run(check, argv, prog="python -m tests.gpt_sovits.parity", description=__doc__)


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of one reference file; its fields tell which stage's it is."""
    if {"s1", "s2"} & set(data):
        # The samplers of both stages share a file.
        others = {name: value for name, value in data.items() if name not in ("s1", "s2")}
        if "s1" in data:
            yield from _module("gpt").check({**others, "s1": data["s1"]})
        if "s2" in data:
            yield from _module("sovits").check({**others, "s2": data["s2"]})
        return
    yield from _module("gpt" if _is_gpt(data) else "sovits").check(data)


def _is_gpt(data: dict[str, Any]) -> bool:
    model = data.get("config", {}).get("model", {})
    parts = [data[name] for name in ("float32", "float64") if isinstance(data.get(name), dict)]
    trajectories = any(isinstance(run, dict) and "trajectory" in run for part in parts for run in part.values())
    return "phoneme_vocab_size" in model or "lr_init" in data.get("config", {}) or trajectories


def _module(stage: str) -> Any:
    # Each stage's checks are loaded when a file needs them.
    return import_module(f"tests.gpt_sovits.parity_{stage}")


if __name__ == "__main__":
    sys.exit(main())
