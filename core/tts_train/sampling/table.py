"""What is told of a set of takes: its figures over all takes and over the best of each text, and what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SIDES = {"higher": "↑", "lower": "↓", "one": "→ 1", "neither": ""}


def table_of(said: Mapping[str, Any]) -> str:
    """Return the page: a line a figure, then the counts.

    Args:
        said: What a set says of itself; see :class:`~tts_train.sampling.making.Making`.
    """
    rewarded = said["reward"]
    lines = [["", "all takes", f"best of {said['n']}", "takes", "weight"]]
    # Figures that no take has are told of below, by the metric and its reasons.
    for name, figure in said["figures"].items():
        if figure["n"]:
            unit = f" ({figure['unit']})" if figure["unit"] else ""
            title = f"{name}{unit} {_SIDES[figure['better']]}".strip()
            weight = f"{rewarded[name]['weight']:g}" if name in rewarded else ""
            numbers = [_number(figure["mean"], figure["digits"]), _number(figure["best"], figure["digits"])]
            lines.append([title, *numbers, str(figure["n"]), weight])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:], "", *(f"- {note}" for note in _notes(said))])


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _notes(said: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{said['takes']} takes of {said['texts']} texts: {said['ended']} ended by themselves, {said['cut_off']} were "
        f"cut off, {said['silent']} gave no sound, {said['not_drawn']} were not drawn.",
        f"Texts that give a pair: {said['pairs']}.",
    ]
    if said["faulty"]:
        notes.append(f"Takes with a fault, which are never the better one of a pair: {said['faulty']}.")
    spoken = {"not_drawn": "not drawn", "silent": "without sound", "faulty": "with a fault"}
    notes += [f"One that is {spoken[kind]}: {example}" for kind, example in said["examples"].items()]
    if said["cut_off"] > said["ended"]:
        limit = said["settings"].get("max_new_tokens")
        notes.append(f"Most takes were cut off at --max_new_tokens {limit}: give more, or train the model longer.")
    notes += [f"Texts without a pair: {count}, as {why}." for why, count in said["without_pair"].items()]
    notes += [f"Rows that are not spoken: {count} {why}." for why, count in said["left_out"].items()]
    notes += [f"Takes that miss the floor of {name}: {count}." for name, count in said["missed"].items()]
    notes += [
        f"Takes of which {name} is left out of the reward: {count}."
        for name, count in said["left_out_of_rewards"].items()
    ]
    for metric, reasons in said["not_judged"].items():
        notes += [f"Takes that {metric} does not judge: {count} ({why})." for why, count in reasons.items()]
    notes += [f"Not measured: {metric} ({why})." for metric, why in said["not_measured"].items()]
    return notes
