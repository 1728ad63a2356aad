"""Where a training step's time would go on a card, counted without one: ``python benchmarks/roofline.py --card H100``.

One planned step of each recipe is run on shapes, as ``tts-train plan`` runs it, and each of its operators counted:
bytes read and written, operations, kernels, values that the host waits for. What that takes on a card is arithmetic:

* large products get 65.7 % of the card's stated arithmetic, all else 77.6 % of its stated memory bandwidth (on an H100
  650 TFLOP/s and 2.6 TB/s); the shares are assumed, the same for every card (``tts_train/memory/cards.py``);
* an operator takes its arithmetic or its bytes, whichever is slower, and 2 us at least; a product with a matrix whose
  rows are no multiple of 16 bytes takes 2.5 times as long; views are free; what is changed in place is read, written;
* the host needs 10 us a kernel and works ahead; each value that it waits for idles the card for 100 us; copies to host
  memory and back run at 20 GB/s on the computing stream (``tts_train/memory/step/ledger.py``);
* bitsandbytes' kernels and products of 4 and 8 bits, which cannot run on shapes, count by what they read and write;
* MFU is of the stated bfloat16 arithmetic, recomputation not counted: 6 operations a trained weight and token, 4 a
  frozen one, attention below the diagonal.

Data are always ready, and nothing is sent between cards. None of it was measured: within 20 %, more likely too fast.

Without ``-c`` the rows of the table in benchmarks/README.md are counted, generation included; each recipe may use the
memory of the card that it is for. Words that are not this command's are options of ``tts-train plan``: ``-c RECIPE
--model.head.chunk_tokens 512``. ``--name DATE-roofline`` writes ``results/NAME.json``; ``--generate BATCH`` counts
generation alone (benchmarks/roofline_generate.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import machine
from roofline_generate import counted_step, generation_figures

from tts_train.configuration.select import select
from tts_train.errors import ConfigError, Interrupted
from tts_train.memory.cards import GIB, Card, card_named, memory_of
from tts_train.memory.planner import Plan
from tts_train.memory.step.ledger import Estimate
from tts_train.recipes import recipes_folder
from tts_train.training.parser import TrainingParser
from tts_train.training.planning import plan_of

RESULTS = Path(__file__).parent / "results"
_ORPHEUS = recipes_folder() / "orpheus"
_FULL = ("--trainer.precision", "bf16-true", "--model.optimizer.name", "adamw8bit")
_TABLE: Mapping[str, tuple[str, Sequence[str]]] = {
    "full bf16, adamw8bit, 8,192 (lm-full-80gb)": ("H100", ("-c", str(_ORPHEUS / "lm-full-80gb.yaml"), *_FULL)),
    "LoRA r64, 8,192": ("H100", ("-c", str(_ORPHEUS / "lm-lora.yaml"), "--data.max_tokens", "8192")),
    "lm-lora, 2,048": ("12GiB", ("-c", str(_ORPHEUS / "lm-lora.yaml"))),
    "lm-full-24gb, 8,192": ("24GiB", ("-c", str(_ORPHEUS / "lm-full-24gb.yaml"))),
    "lm-full-16gb, 2,048": ("16GiB", ("-c", str(_ORPHEUS / "lm-full-16gb.yaml"))),
}
"""The rows of the goals: the memory that the recipe is for, and the options."""
_DEAREST = 5


def main(words: Sequence[str] | None = None) -> int:
    """Count what was asked for; the JSON, if wanted, is the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", default=[], metavar="RECIPE", help="recipes, one row each")
    parser.add_argument("--card", default="H100", help="a card's name, such as H100, A100, L40S, 4090, 3060")
    parser.add_argument("--memory", help="memory that --model.checkpoint_share auto may use; otherwise the card's")
    parser.add_argument("--max-tokens", type=int, help="tokens in a batch, in place of the recipe's")
    parser.add_argument("--generate", type=int, action="append", default=[], metavar="BATCH", help="count generation")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    parser.add_argument("--name", help="write all figures to results/NAME.json")
    options, rest = parser.parse_known_args(words)
    if rest and not options.config:
        parser.error(f"give recipes with -c RECIPE; {' '.join(rest)} was given.")
    if min(options.generate, default=1) < 1:
        parser.error("--generate takes a number of utterances, 1 or more.")
    if options.memory and not options.config:
        parser.error("--memory is for recipes given with -c RECIPE; each row of the table has its own.")
    if options.name and not (RESULTS / options.name).parent.is_dir():
        parser.error(f"--name is the name of a file in {RESULTS}, and {options.name} was given.")
    try:
        return _count(options, rest)
    except ConfigError as error:
        parser.error(str(error))
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("roofline.py: interrupted", file=sys.stderr)
        return Interrupted.exit_code


def _count(options: argparse.Namespace, rest: Sequence[str]) -> int:
    card = card_named(options.card)
    memory = card.memory_bytes if options.memory is None else memory_of(options.memory, option="--memory")
    rows = {Path(recipe).stem: (memory, ("-c", recipe)) for recipe in options.config}
    if not rows and not options.generate and not rest:
        rows, options.generate = {name: (memory_of(size), words) for name, (size, words) in _TABLE.items()}, [1, 16]
    more = [*rest, *(() if options.max_tokens is None else ("--data.max_tokens", str(options.max_tokens)))]
    report: dict[str, Any] = {"card": card.name, "rows": {}}
    for name, (memory, recipe) in rows.items():
        report["rows"][name] = row = training_row([*recipe, *more], card, memory)
        print(f"\n{name} on {card.name}\n" + readable(row), flush=True)
    for batch in options.generate:
        report["rows"][f"generation, batch {batch}"] = row = generation_row(batch, card)
        print(f"\ngeneration, batch {batch}, on {card.name}\n" + readable(row), flush=True)
    if options.name:
        text = json.dumps({"machine": machine(), **report}, indent=1)
        (RESULTS / f"{options.name}.json").write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(report))
    return 0


def quiet() -> None:
    """Leave out what Lightning says about a machine without a card."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "tts_train_orpheus"):
        logging.getLogger(name).setLevel(logging.ERROR)


def training_row(words: Sequence[str], card: Card, memory: int) -> dict[str, Any]:
    """Return the figures of one optimiser step of what ``tts-train plan`` would plan with ``words`` for ``memory``."""
    began = time.perf_counter()
    selection = select(words)
    chosen = selection.load()
    plan = plan_of(TrainingParser("plan", chosen, selection.rest), chosen, gpu_bytes=memory, search=False)
    row = figures(plan, plan.on(card), card)
    row["counted_in_s"] = round(time.perf_counter() - began, 1)
    return row


def generation_row(batch: int, card: Card) -> dict[str, Any]:
    """Return the figures of one token for each of ``batch`` utterances."""
    step = counted_step(batch, card)
    return {**generation_figures(batch, step), **times(step)}


def figures(plan: Plan, step: Estimate, card: Card) -> dict[str, Any]:
    """Return a plan's estimate in plain numbers; times in milliseconds."""
    tokens = plan.tokens * plan.accumulate
    return {
        "tokens": tokens,
        "tokens_per_s": round(tokens / step.seconds, 1),
        "mfu": round(step.utilisation(card), 4),
        "needed_gib": round(plan.needed_bytes / GIB, 2),
        "fits": bool(plan.fits) and plan.needed_bytes <= card.memory_bytes,
        "needed_gib_all_recomputed": round(plan.least_bytes / GIB, 2),
        "checkpoint_share": plan.recomputed,
        **times(step),
    }


def times(step: Estimate) -> dict[str, Any]:
    """Return what an estimate says of a step, whatever it is of."""
    dearest = sorted(step.by_operator.items(), key=lambda item: -item[1])[:_DEAREST]
    return {
        "step_ms": _ms(step.seconds),
        "device_ms": _ms(step.device_seconds),
        "host_ms": _ms(step.host_seconds),
        "waiting_ms": _ms(step.wait_seconds),
        "misaligned_ms": _ms(step.misaligned_seconds),
        "launches": round(step.launches),
        "host_waits": round(step.waits),
        "gigabytes": round(step.bytes / 1e9, 1),
        "tflop": round(step.flops / 1e12, 2),
        "by_work_ms": {work: _ms(seconds) for work, seconds in step.by_work.items()},
        "dearest_ms": {f"{work}: {operator}": _ms(seconds) for (work, operator), seconds in dearest},
    }


def readable(row: Mapping[str, Any]) -> str:
    """Return a row as lines of text."""
    lines = [f"  {name}: {value}" for name, value in row.items() if not isinstance(value, dict)]
    for name, title in (("by_work_ms", "time by kind of work, ms"), ("dearest_ms", "most expensive operators, ms")):
        lines.append(f"  {title}: " + ", ".join(f"{what} {ms}" for what, ms in row[name].items()))
    return "\n".join(lines)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)


if __name__ == "__main__":
    quiet()
    raise SystemExit(main())
