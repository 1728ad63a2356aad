"""``tts-train plan``: memory, work and the largest batch of a recipe, without a GPU and without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tts_train.cli import COMMANDS
from tts_train.cli.helping import load
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.configuration.early import check_early
from tts_train.configuration.select import select
from tts_train.configuration.words import understood

if TYPE_CHECKING:
    from tts_train.memory.planner import Plan

_EPILOG = (
    "Every option of fit is one of plan, too: -c recipe.yaml, --backend, --stage, --model.*, --data.*, --trainer.*. "
    "Where --data.path is there, the time of an epoch is estimated."
)


def run(verb: str, words: list[str]) -> int:
    """Plan a run; exit code 2, after the report, where it does not fit the card."""
    own = WordsParser(verb, COMMANDS[verb][1], _EPILOG)
    own.add_argument("--gpu", help="memory of a card, such as 24GiB, or its name; the largest batch is then looked for")
    own.add_argument("--ranks", type=int, help="processes, one a card; otherwise --trainer.devices x num_nodes")
    own.add_argument("--json", action="store_true", help="print one JSON object, last on stdout")
    options, rest = own.parse_known_args(words)
    selection = select(understood(verb, rest))
    chosen = load(selection, verb)
    check_early(verb, chosen, selection)
    from tts_train.training.planning import plan_selected

    plan = plan_selected(chosen, selection, gpu=options.gpu, ranks=options.ranks)
    print_report(plan.report() if options.json else _readable(plan), as_json=options.json)
    # None, where no card was named, is no failure.
    return 2 if plan.fits is False else 0


def _readable(plan: Plan) -> dict[str, Any]:
    from tts_train.memory.cards import CARDS, GIB
    from tts_train.training.planning import verdict

    lines: dict[str, Any] = {"verdict": verdict(plan), plan.option: plan.step.size}
    if plan.largest is not None:
        lines["largest that fits"] = f"{plan.option} {plan.largest}" if plan.largest else "none"
    if plan.recomputed is not None:
        least = "" if plan.recomputed == 1 else f"; all of them, {plan.least_bytes / GIB:.1f} GiB would be enough"
        lines["layers recomputed"] = f"{plan.recomputed:.0%}{least}"
    lines["at the peak"] = ", ".join(f"{kind} {size / GIB:.2f} GiB" for kind, size in plan.step.breakdown.items())
    lines["parameters"] = f"{plan.parameters:,}, of which {plan.trained:,} are trained"
    lines["work of a step"] = f"{plan.step_flops / 1e12:,.1f} TFLOP on {plan.ranks} processes"
    for card in CARDS:
        hours = plan.epoch_hours(card)
        time = "" if hours is None else f", {_spelt(hours[0])} to {_spelt(hours[1])} an epoch"
        fits = "fits" if plan.fits_on(card) else "too small"
        if plan.needed_bytes > card.memory_bytes >= plan.least_bytes:
            fits = "fits, more layers recomputed"
        lines[card.name] = f"{card.memory_bytes / GIB:.1f} GiB: {fits}{time}"
    if plan.batches is None:
        lines["epoch"] = "unknown: the data are not there (--data.path)"
    lines["notes"] = " ".join(plan.notes)
    return lines


def _spelt(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
