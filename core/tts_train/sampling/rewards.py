"""Rewards of takes: a weighted sum of named figures, each standardised among the takes of its text."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tts_train.contract.metric import Figure
from tts_train.errors import ConfigError

DEFAULT = "words:1, speaker:0.3, mos:0.2, duration:0.5, stop:1, repetition:1, silence:0.5"
"""What counts where nobody says it, as far as it is measured."""
WORDS: Mapping[str, tuple[str, ...]] = {
    "words": ("cer", "words_found"),
    "wer": ("wer",),
    "speaker": ("wavlm_similarity", "speaker_similarity"),
    "mos": ("distillmos", "dnsmos"),
    "duration": ("duration_ratio", "pace_ratio"),
    "silence": ("long_silence",),
    "repetition": ("repetition",),
    "stop": ("stop",),
}
"""Short words for figures; of several the first that is measured is meant."""
LEAST_SHARE = 0.1
"""Least deviation of a figure among the takes of a text, as a share of its deviation over all takes: takes that hardly
differ are not told apart by noise."""
MISSED = 3.0
"""What each missed floor takes off a reward, and how far below the worst take of its text one without sound lies."""

_ROUNDING = 1e-12

Values: TypeAlias = "Sequence[float | None]"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One part of a reward as it was asked for."""

    name: str
    """A figure, or one of :data:`WORDS`."""
    weight: float
    floor: float | None = None
    """Worst value that is still good enough, in the figure's unit; for a figure that is best at 1 the largest distance
    from it."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One part of a reward: a figure with its weight and floor."""

    figure: Figure
    weight: float
    floor: float | None

    def gains(self, values: Values) -> NDArray[np.float64]:
        """Return (takes,) numbers that are the higher the better, NaN where the figure is not there."""
        given = np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)
        # A distance from 1 has no side: too short and too long are equally bad.
        better = self.figure.better
        return given if better == "higher" else -given if better == "lower" else -np.abs(given - 1)

    def misses(self, values: Values) -> NDArray[np.bool_]:
        """Return (takes,) which miss the floor; one that is not measured does not."""
        if self.floor is None:
            return np.zeros(len(values), dtype=bool)
        # A comparison with NaN is false: what is not measured misses nothing.
        floor = self.floor if self.figure.better == "higher" else -self.floor
        missed: NDArray[np.bool_] = self.gains(values) < floor
        return missed


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a reward says of takes."""

    rewards: list[float | None]
    missed: list[list[str]]
    """Figures of each take whose floor it misses."""
    left_out: Counter[str]
    """How many takes with a sound a figure of the reward does not judge, by its name."""


def read_reward(text: str) -> list[Wish]:
    """Read ``words:1, speaker:0.3:0.7``: names, each with a weight and, after it, a floor.

    Raises:
        ConfigError: if it cannot be read, with an example.
    """
    wishes = [_read_one(part.strip(), text) for part in text.split(",") if part.strip()]
    names = [wish.name for wish in wishes]
    if not wishes:
        raise ConfigError(f"--reward is empty. Name what counts, as in --reward '{DEFAULT}'.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--reward names {twice[0]} twice. Give it one weight.")
    return wishes


def _read_one(part: str, text: str) -> Wish:
    name, *numbers = (word.strip() for word in part.split(":"))
    # float() takes "nan" and "inf", of which no weight can be made.
    try:
        values = [float(number) for number in numbers]
        if not (name and 1 <= len(values) <= 2 and all(map(math.isfinite, values)) and values[0] > 0):
            raise ValueError(part)
    except ValueError:
        raise ConfigError(
            f"--reward {text!r}: {part!r} is no NAME:WEIGHT or NAME:WEIGHT:FLOOR with a weight above 0. For example: "
            "--reward 'words:1, speaker:0.3:0.7, stop:1'."
        ) from None
    return Wish(name=name, weight=values[0], floor=values[1] if len(values) > 1 else None)


def default_wishes(figures: Mapping[str, Figure]) -> tuple[list[Wish], list[str]]:
    """Return what :data:`DEFAULT` asks for and is measured, and the words of it that are not."""
    wishes = read_reward(DEFAULT)
    there = [wish for wish in wishes if set(WORDS[wish.name]) & set(figures)]
    return there, [wish.name for wish in wishes if wish not in there]


def choose_terms(
    wishes: Sequence[Wish], figures: Mapping[str, Figure], *, missing: Mapping[str, str], empty: Sequence[str] = ()
) -> list[Term]:
    """Return the figures that are meant.

    Args:
        wishes: What was asked for.
        figures: Those that are measured, by name.
        missing: Metrics that are not measured, and what to do for it.
        empty: Figures that no take has: of several that a word means, one that has values comes first.

    Raises:
        ConfigError: if one is not measured or has no direction, a floor cannot be reached, or two wishes mean one
            figure.
    """
    terms = [
        Term(figure=_meant(wish.name, figures, missing, empty), weight=wish.weight, floor=wish.floor) for wish in wishes
    ]
    if reached := [term for term in terms if term.figure.better == "one" and (term.floor or 0) < 0]:
        raise ConfigError(
            f"--reward: {reached[0].figure.name} is best at 1, so its floor is the largest distance from 1, and "
            f"{reached[0].floor:g} is none. Give 0.3 to allow 0.7 to 1.3."
        )
    names = [term.figure.name for term in terms]
    # A figure that counts twice would have a weight that nobody wrote.
    for wish, name in zip(wishes, names, strict=True):
        if names.count(name) > 1:
            raise ConfigError(f"--reward: {wish.name} and another name both mean the figure {name}. Leave one out.")
    return terms


def _meant(name: str, figures: Mapping[str, Figure], missing: Mapping[str, str], empty: Sequence[str]) -> Figure:
    # Names of figures are words for themselves.
    meant = WORDS.get(name, (name,))
    there = [figures[each] for each in meant if each in figures]
    # The first that has values: recordings of the texts may be there or not.
    found = next((figure for figure in there if figure.name not in empty), there[0] if there else None)
    if found is None:
        known = ", ".join(f"{figure.name} ({figure.better})" for figure in figures.values() if _has_side(figure))
        words = ", ".join(WORDS)
        lacking = "".join(f"\n  {metric}: {why}" for metric, why in missing.items())
        raise ConfigError(
            f"--reward: {name!r} is not measured. Figures that are: {known}; short words: {words}."
            + (f" Metrics that are not measured here:{lacking}" if lacking else "")
        )
    if not _has_side(found):
        raise ConfigError(
            f"--reward: {found.name} ({found.summary}) is better neither high nor low, so it cannot be rewarded."
        )
    return found


def _has_side(figure: Figure) -> bool:
    return figure.better != "neither"


def judge(
    text_ids: Sequence[str],
    figures: Mapping[str, Values],
    terms: Sequence[Term],
    *,
    sounding: Sequence[bool],
    drawn: Sequence[bool],
) -> Judged:
    """Return the reward of each take.

    A figure is standardised among the takes of its text that have it: z = (x - mean) / deviation, where the deviation
    is at least :data:`LEAST_SHARE` of that over all takes. The reward is the mean of z, weighted, over the figures that
    the take has, less :data:`MISSED` for each floor that it misses. A take that was drawn and has no sound lies
    :data:`MISSED` below the worst of its text. What was not drawn, or has none of the figures, has no reward.

    Args:
        text_ids: Of each take.
        figures: Values of each take by figure.
        terms: Parts of the reward.
        sounding: Whether each take has a sound.
        drawn: Whether anything was drawn for it.
    """
    rows = _rows_of(text_ids)
    total, weights = np.zeros(len(text_ids)), np.zeros(len(text_ids))
    missed: list[list[str]] = [[] for _ in text_ids]
    left_out: Counter[str] = Counter()
    for term in terms:
        values = figures[term.figure.name]
        # Per text: some texts are harder than others, and takes of one are compared with each other alone.
        scores = standardised(term.gains(values), rows)
        there = ~np.isnan(scores)
        # What a metric cannot judge takes part with no weight, so it is neither good nor bad.
        total[there] += term.weight * scores[there]
        weights[there] += term.weight
        left_out[term.figure.name] += int((np.asarray(sounding) & ~there).sum())
        for row in np.flatnonzero(term.misses(values)):
            missed[row].append(term.figure.name)
    rewards: list[float | None] = [
        float(total[row] / weights[row]) - MISSED * len(missed[row]) if weights[row] and sounding[row] else None
        for row in range(len(text_ids))
    ]
    _put_last(rewards, rows, sounding, drawn)
    return Judged(rewards=rewards, missed=missed, left_out=+left_out)


def standardised(gains: NDArray[np.float64], rows: Mapping[str, Sequence[int]]) -> NDArray[np.float64]:
    """Return (takes,) by how many deviations each is above the mean of its text; NaN stays."""
    # Over all takes: one text of which all takes are alike says nothing of what is much.
    known = gains[~np.isnan(gains)]
    scores = np.full(len(gains), np.nan)
    least = LEAST_SHARE * float(known.std()) if len(known) else 0.0
    for own in rows.values():
        there = np.asarray([row for row in own if not np.isnan(gains[row])], dtype=np.int64)
        if len(there):
            mean = float(gains[there].mean())
            deviation = max(float(gains[there].std()), least)
            # Equal numbers deviate by rounding alone.
            scores[there] = (gains[there] - mean) / deviation if deviation > _ROUNDING * (1 + abs(mean)) else 0.0
    return scores


def _rows_of(text_ids: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, text_id in enumerate(text_ids):
        rows[text_id].append(row)
    return rows


def _put_last(
    rewards: list[float | None], rows: Mapping[str, Sequence[int]], sounding: Sequence[bool], drawn: Sequence[bool]
) -> None:
    for own in rows.values():
        # Where no take of a text has a sound they are all equally bad, and give no pair.
        worst = min((reward for row in own if (reward := rewards[row]) is not None), default=0.0)
        for row in own:
            if drawn[row] and not sounding[row]:
                rewards[row] = worst - MISSED
