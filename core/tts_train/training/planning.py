"""Before a run on a card begins: the plan's verdict, and the size of batches where it was left to us."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
import yaml

from tts_train.configuration.select import Chosen, Selection
from tts_train.configuration.settings import Recipe, Settings, requested
from tts_train.contract.data import AUTO, StageData
from tts_train.environment import quiet
from tts_train.errors import ConfigError, TTSTrainError
from tts_train.memory.cards import GIB, memory_of
from tts_train.memory.planner import Division, Plan, make_plan
from tts_train.memory.probe import takes_a_step
from tts_train.memory.search import CHECKPOINTING, SHARE, recomputes
from tts_train.parallel.together import leads
from tts_train.run.directory import RunDirectory
from tts_train.run.loops import keyboard_interrupts
from tts_train.sharding.options import NAME
from tts_train.training.parser import TrainingParser

logger = logging.getLogger(__name__)

OnMisfit: TypeAlias = Literal["refuse", "try", "off"]
"""``--plan``: what to do with a run that the plan says does not fit the card."""

_ONE_PROCESS = ("auto", "None")
# A size that did not fit is lowered to this share of it, so many times.
_LESS, _TRIES = 0.9, 3
# Other programs' memory from which on it is told of.
_NOTED = GIB // 4
OWN_CONTEXT_BYTES = GIB // 2
"""What this process's context takes when the card is asked, before any library's kernels are loaded; assumed."""


def plan(
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    /,
    *,
    gpu: str | None = None,
    ranks: int | None = None,
    **options: Any,  # noqa: ANN401 - values of any setting
) -> Plan:
    """Estimate memory, work and the largest batch of a run, as ``tts-train plan`` does: without its weights or a GPU.

    Args:
        recipe: What is planned, as for :class:`~tts_train.training.run.Training`, as are settings and options.
        settings: Settings that win over the recipe, by whole names.
        gpu: Memory of a card, such as ``24GiB``, or its name; the largest batch is then looked for.
        ranks: Processes, one a card; None for ``trainer.devices`` x ``trainer.num_nodes``.
        options: Settings as keyword arguments.

    Returns:
        The plan; ``fits`` says whether the card has room, ``report()`` is what the command prints with ``--json``.

    Raises:
        ConfigError: for what the command refuses.
    """
    return plan_selected(*requested("plan", recipe, settings, options), gpu=gpu, ranks=ranks)


def plan_selected(chosen: Chosen, selection: Selection, *, gpu: str | None, ranks: int | None) -> Plan:
    """Plan what a command line or a call asks for; see :func:`plan`."""
    with quiet(), keyboard_interrupts():
        parser = TrainingParser("plan", chosen, selection.rest)
        gpu_bytes = None if gpu is None else memory_of(gpu)
        return plan_of(parser, chosen, gpu_bytes=gpu_bytes, ranks=ranks, search=True)


def plan_of(
    parser: TrainingParser, chosen: Chosen, *, gpu_bytes: int | None, ranks: int | None = None, search: bool
) -> Plan:
    """Plan what a parsed command line would train; nothing that ``parser`` built is touched.

    Raises:
        ConfigError: if the stage cannot be planned, or the number of processes makes no sense.
    """
    # The plan empties what it is given.
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
    # "auto" and -1 are one process: what they come to is known on the machine of the run only.
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
    peak, needed = plan.step.peak_bytes / GIB, plan.needed_bytes / GIB
    text = f"Plan: {peak:.1f} GiB of tensors at the peak, {needed:.1f} GiB with what a card needs besides"
    if plan.gpu_bytes is None:
        return f"{text}."
    word = "fits" if plan.fits else "does not fit"
    return f"{text}: {word} {plan.gpu_bytes / GIB:.1f} GiB."


def check_fits(
    parser: TrainingParser, chosen: Chosen, run: RunDirectory, *, card_bytes: int | None, plan: Plan | None = None
) -> Plan | None:
    """Print the plan's verdict on a run that begins on a card, and refuse it where it cannot fit; return the plan.

    Runs that have saved a checkpoint are not planned.

    Args:
        parser: The command.
        chosen: What it is about.
        run: Where the run lives.
        card_bytes: Memory of a card; None, on a CPU, plans nothing.
        plan: Of the same command, if there is one.

    Raises:
        ConfigError: if it does not fit, and ``--plan`` does not say to try.
    """
    on_misfit: OnMisfit = parser.resolved["plan"]
    # A run that has trained has shown that it fits; and one process says it for all.
    if card_bytes is None or on_misfit == "off" or run.steps() or not leads():
        return None
    try:
        plan = plan or plan_of(parser, chosen, gpu_bytes=card_bytes, search=False)
    except TTSTrainError as error:
        logger.info("No plan: %s", error)
        return None
    logger.info("%s", verdict(plan))
    if plan.fits is False and on_misfit == "refuse":
        raise ConfigError(
            f"{verdict(plan)} Give a smaller --{plan.option} than {plan.step.size}, or a recipe that needs less "
            "(configs/README.md); `tts-train plan` with the same options and --gpu finds the largest that fits. To try "
            "all the same: --plan try."
        )
    return plan


def card_of(trainer: Mapping[str, Any]) -> int | None:
    """Return the memory that ``--trainer.*`` finds on its card, the first of several; None for a CPU.

    What other programs hold, a desktop for one, is not there for the run.
    """
    if not torch.cuda.is_available() or str(trainer.get("accelerator")) not in ("auto", "gpu", "cuda"):
        return None
    devices = trainer.get("devices")
    # Cards of one machine are taken for alike.
    first = int(devices[0]) if isinstance(devices, (list, tuple)) and devices else 0
    free, total = torch.cuda.mem_get_info(first)
    # Asking makes this process's CUDA context, which the plan counts by itself.
    own = torch.cuda.memory_reserved(first) + OWN_CONTEXT_BYTES
    room = min(free + own, total)
    if total - room > _NOTED:
        logger.info(
            "Other programs use %.1f of the card's %.1f GiB; the plan counts on the %.1f GiB that are left.",
            *((total - room) / GIB, total / GIB, room / GIB),
        )
    return int(room)


def resolve_auto(
    verb: str, parser: TrainingParser, chosen: Chosen, words: Sequence[str], run: RunDirectory
) -> Sequence[str]:
    """Return ``words`` with a number in place of ``auto`` for what bounds a batch; the same words where it was not.

    A run that has begun keeps its number. Otherwise it is the largest that the plan says fits the card, with which two
    steps are then taken; where they run out of memory it is lowered by a tenth, three times at most.

    Raises:
        ConfigError: if there is no card, several processes, or nothing fits.
    """
    data = parser.datamodule
    if not isinstance(data, StageData) or parser.resolved["data"].get(data.budget) != AUTO:
        return words
    size = _of_the_run(run, "data", data.budget)
    if size is None:
        size = _found(verb, parser, chosen, f"--data.{data.budget}")
    return [*words, f"--data.{data.budget}", str(size)]


def _found(verb: str, parser: TrainingParser, chosen: Chosen, option: str) -> int:
    trainer = parser.options("trainer")
    card_bytes = card_of(trainer)
    if verb != "fit" or _several(trainer) or card_bytes is None:
        raise ConfigError(
            f"{option} {AUTO} is found out by fit on the card itself, in one process. Otherwise run `tts-train plan` "
            f"with the same options, --gpu 24GiB (or what the card has) and --ranks, and give {option} its answer."
        )
    plan = plan_of(parser, chosen, gpu_bytes=card_bytes, search=True)
    size = plan.largest or 0
    for _ in range(_TRIES):
        if size < 1:
            break
        logger.info("The plan says that %s %d fits this card; trying a step with it.", option, size)
        if takes_a_step(*parser.build_again(), trainer, size):
            return size
        # The plan knows no card's fragmentation; what ran out of memory needs a little more, hardly ever a tenth.
        size = int(size * _LESS)
    raise ConfigError(
        f"{verdict(plan)} No {option} was found that this card has room for; choose a recipe that needs less."
    )


def resolve_share(
    verb: str, parser: TrainingParser, chosen: Chosen, words: Sequence[str], run: RunDirectory
) -> tuple[Sequence[str], Plan | None]:
    """Return ``words`` with the share of layers that is recomputed where it was left to the card, and the plan of it.

    A run that has begun keeps its share. Otherwise it is the least that the plan says fits the card. All layers are
    recomputed where there is no card, no plan, or more than one process.
    """
    if verb != "fit" or recomputes(parser.model) is None:
        return words, None
    saved = _of_the_run(run, "model", SHARE)
    if saved is not None:
        return [*words, *_share_words(saved if _of_the_run(run, "model", CHECKPOINTING) else 0.0)], None
    trainer = parser.options("trainer")
    card_bytes = card_of(trainer)
    if card_bytes is None or parser.resolved["plan"] == "off" or _several(trainer) or run.steps():
        return words, None
    try:
        plan = plan_of(parser, chosen, gpu_bytes=card_bytes, search=False)
    except TTSTrainError as error:
        logger.info("All layers are recomputed in backward, since there is no plan: %s", error)
        return words, None
    share = 1.0 if plan.recomputed is None else plan.recomputed
    logger.info("Recomputing %.0f %% of the layers in backward, the least that this card has room for.", 100 * share)
    return [*words, *_share_words(share)], plan


def _share_words(share: float) -> list[str]:
    """Return the options for a share; without recomputation there is none."""
    on = f"--model.{CHECKPOINTING}"
    return [on, "true", f"--model.{SHARE}", str(share)] if share else [on, "false", f"--model.{SHARE}", "1.0"]


def _several(trainer: Mapping[str, Any]) -> bool:
    # Processes would find different numbers on cards that others use, and their batches would not match.
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or str(trainer.get("strategy")) not in _ONE_PROCESS


def _of_the_run(run: RunDirectory, part: str, option: str) -> Any:  # noqa: ANN401 - an option's value
    """Return a number or switch that a run was begun with; None where there is no run, or it is no such value."""
    if not run.config.is_file():
        return None
    # The run's own file, not this command's recipe, where it may still say auto.
    saved: Any = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    value = (saved.get(part) or {}).get(option) if isinstance(saved, dict) else None
    return value if isinstance(value, (int, float)) else None
