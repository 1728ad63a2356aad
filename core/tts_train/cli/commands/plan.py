"""``tts-train plan``: memory, work and the largest batch of a recipe, without a GPU and without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.cli.parsing.arguments import WordsParser
from tts_train.errors import ConfigError

if TYPE_CHECKING:
    from tts_train.cli.parsing.parser import TrainingParser
    from tts_train.cli.parsing.select import Chosen
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
    from tts_train.cli.parsing.early import check_early
    from tts_train.cli.parsing.select import select
    from tts_train.cli.parsing.words import understood

    selection = select(understood(verb, rest))
    chosen = selection.load(verb=verb)
    check_early(verb, chosen, selection)
    from tts_train.cli.parsing.parser import TrainingParser
    from tts_train.memory.cards import memory_of

    parser = TrainingParser(verb, chosen, selection.rest)
    gpu = None if options.gpu is None else memory_of(options.gpu)
    plan = plan_of(parser, chosen, gpu_bytes=gpu, ranks=options.ranks, search=True)
    print_report(plan.report() if options.json else _readable(plan), as_json=options.json)
    return 2 if plan.fits is False else 0


def plan_of(
    parser: TrainingParser, chosen: Chosen, *, gpu_bytes: int | None, ranks: int | None = None, search: bool
) -> Plan:
    """Plan what a parsed command line would train; nothing that ``parser`` built is touched.

    Raises:
        ConfigError: if the stage cannot be planned, or the number of processes makes no sense.
    """
    from tts_train.memory.planner import make_plan

    module, data = parser.build_again()
    trainer = parser.options("trainer")
    return make_plan(
        module,
        data,
        trainer,
        size=data.bound,
        gpu_bytes=gpu_bytes,
        division=_division(parser, chosen, trainer, ranks),
        search=search,
        device="cpu" if trainer.get("accelerator") == "cpu" else "cuda",
        listened=_listened(parser),
    )


def _listened(parser: TrainingParser) -> int:
    sentences = parser.options("listen").sentences
    return sentences if isinstance(sentences, int) else len(sentences)


def _division(parser: TrainingParser, chosen: Chosen, trainer: Mapping[str, Any], ranks: int | None) -> Any:  # noqa: ANN401
    from tts_train.memory.ranks import Division
    from tts_train.sharding.options import NAME

    devices, nodes = trainer.get("devices"), int(trainer.get("num_nodes") or 1)
    found = int(str(devices)) * nodes if str(devices).isdigit() else nodes
    count = found if ranks is None else ranks
    if count < 1:
        raise ConfigError(f"--ranks must be at least 1, and {count} was given.")
    sharded = trainer.get("strategy") == NAME
    fsdp = parser.options(NAME) if sharded else None
    precision = str(trainer.get("precision"))
    half = fsdp is not None and (fsdp.gather_dtype in ("bfloat16", "float16") or precision in ("bf16-true", "16-true"))
    return Division(count, fsdp, chosen.stage.sharding.wrap, half)


def verdict(plan: Plan) -> str:
    """Return the plan's verdict in one sentence."""
    from tts_train.memory.cards import GIB

    peak, needed = plan.step.peak_bytes / GIB, plan.needed_bytes / GIB
    text = f"Plan: {peak:.1f} GiB of tensors at the peak, {needed:.1f} GiB with what a card needs besides"
    if plan.gpu_bytes is None:
        return f"{text}."
    word = "fits" if plan.fits else "does not fit"
    return f"{text}: {word} {plan.gpu_bytes / GIB:.1f} GiB."


def _readable(plan: Plan) -> dict[str, Any]:
    from tts_train.memory.cards import CARDS, GIB

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
