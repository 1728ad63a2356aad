"""What takes are worth: the words of ``tts-train sample --reward``, measured in memory; and what is only watched."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tts_train.errors import ConfigError
from tts_train.sampling.drawing import measured
from tts_train.sampling.guards import PACE, SPEECH, pace_ratios
from tts_train.sampling.making import figures_of
from tts_train.sampling.rewards import MISSED, Term, Wish, choose_terms, default_wishes, judge, read_reward

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tts_train.contract.jobs import Drawn
    from tts_train.contract.metric import Figure, Metric
    from tts_train.scoring.sentences import Sentence, TextRow

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeardTake:
    """A take of a text, and what is measured of it."""

    row: TextRow
    drawn: Drawn
    figures: Mapping[str, float]

    @property
    def pace(self) -> float | None:
        """Seconds of speech for a letter; None without a sound."""
        seconds = self.figures.get(SPEECH)
        return None if seconds is None else seconds / max(1, sum(map(str.isalnum, self.row.text)))


@dataclass
class TakeJudge:
    """Measures takes and gives them rewards.

    Args:
        metrics: What can measure, all of it able to.
        missing: Metrics that are not there, and what to do for it.
        reward: As ``--reward`` has it; empty takes what is usual and can be measured.
        watch: A figure that is never rewarded; empty for none.

    Raises:
        ConfigError: if a figure is not measured, is better neither high nor low, or is both rewarded and watched.
    """

    metrics: Sequence[Metric]
    missing: Mapping[str, str]
    reward: str
    watch: str
    terms: list[Term] = field(init=False)
    watched: Term | None = field(init=False, default=None)
    lacking: Counter[tuple[str, str]] = field(init=False, default_factory=Counter)
    """Takes that a metric could not measure, by metric and reason."""

    def __post_init__(self) -> None:
        figures = figures_of(self.metrics)
        wishes, absent = (read_reward(self.reward), []) if self.reward.strip() else default_wishes(figures)
        if absent:
            why = "; ".join(f"{metric}: {each}" for metric, each in self.missing.items())
            _log.warning("Not rewarded, as nothing measures it here: %s (%s).", ", ".join(absent), why)
        self.terms = self._meant("--model.reward", wishes)
        names = {term.figure.name for term in self.terms}
        if self.watch:
            (self.watched,) = self._meant("--model.watch", [Wish(name=self.watch, weight=1.0)])
            if self.watched.figure.name in names:
                raise ConfigError(
                    f"--model.watch {self.watch} is rewarded by --model.reward, so it shows nothing. Watch another "
                    f"figure, or leave it out of the reward."
                )
        # Only what is asked for: some metrics take seconds for a take.
        self._rewarding = [metric for metric in self.metrics if names & {each.name for each in metric.figures}]
        self._watching = [
            metric
            for metric in self.metrics
            if self.watched is not None and self.watched.figure in metric.figures and metric not in self._rewarding
        ]

    def _meant(self, option: str, wishes: Sequence[Wish]) -> list[Term]:
        try:
            return choose_terms(wishes, figures_of(self.metrics), missing=self.missing)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--reward", option)) from error

    @property
    def wishes(self) -> list[list[Any]]:
        """What is rewarded, in plain types: name, weight and floor of each figure."""
        return [[term.figure.name, term.weight, term.floor] for term in self.terms]

    def hear(self, row: TextRow, drawn: Drawn, sentence: Sentence, *, watching: bool = False) -> HeardTake:
        """Measure one take.

        Args:
            row: Its text.
            drawn: The take.
            sentence: What it is held against.
            watching: Whether to measure what is only watched, too.
        """
        metrics = [*self._rewarding, *(self._watching if watching else ())]
        known = set(self.lacking)
        heard = HeardTake(row, drawn, measured(drawn, sentence, metrics, self.lacking))
        # Said once: it takes no part in what is learnt, and no figure of a step shows it.
        for metric, why in self.lacking.keys() - known:
            _log.warning("Takes that %s cannot measure are judged without it: %s (the first: %s).", metric, why, row.id)
        return heard

    def table(self, heard: Sequence[HeardTake]) -> dict[str, list[float | None]]:
        """Return the values of all figures by name, None where a take has none."""
        names = dict.fromkeys(name for each in heard for name in each.figures)
        # A figure that no take has is there all the same, so that a reward finds it empty.
        asked = self.terms if self.watched is None else [*self.terms, self.watched]
        names |= dict.fromkeys(term.figure.name for term in asked)
        table: dict[str, list[float | None]] = {name: [each.figures.get(name) for each in heard] for name in names}
        table[PACE] = pace_ratios(
            [each.row.id for each in heard],
            [each.row.text for each in heard],
            [each.row.speaker for each in heard],
            [each.row.language for each in heard],
            [each.figures.get(SPEECH) for each in heard],
            [each.drawn.ended for each in heard],
        )
        return table

    def rewards(self, heard: Sequence[HeardTake], table: Mapping[str, Sequence[float | None]]) -> list[float | None]:
        """Return the reward of each take among those of its text; None where nothing judges it."""
        # Among the takes of a step, as `sample` judges among those of a set.
        return judge(
            [each.row.id for each in heard],
            table,
            self.terms,
            sounding=[each.drawn.sound is not None for each in heard],
            drawn=[bool(each.drawn.columns) for each in heard],
        ).rewards


@dataclass(frozen=True)
class Start:
    """What the takes of the network were like as training began: what later ones are compared with."""

    scales: Mapping[str, Sequence[float]]
    """Mean and deviation of the gains of each rewarded figure."""
    pace: float | None
    """Mean seconds of speech for a letter."""

    @classmethod
    def of(cls, judge: TakeJudge, heard: Sequence[HeardTake], table: Mapping[str, Sequence[float | None]]) -> Start:
        """Return what the first takes are like."""
        scales = {}
        for term in judge.terms:
            gains = term.gains(table[term.figure.name])
            known = gains[~np.isnan(gains)]
            scales[term.figure.name] = _scale(known, term.figure)
        return cls(scales, mean([each.pace for each in heard]))

    def risen(
        self, judge: TakeJudge, heard: Sequence[HeardTake], table: Mapping[str, Sequence[float | None]]
    ) -> float | None:
        """Return by how many deviations of the start the rewarded figures are better now, weighed.

        A take without sound counts as :data:`~tts_train.sampling.rewards.MISSED` deviations worse.
        """
        total, weights = np.zeros(len(heard)), np.zeros(len(heard))
        for term in judge.terms:
            # Not standardised among the takes of a text, where the mean is always 0 and nothing could rise.
            middle, deviation = self.scales[term.figure.name]
            scores = (term.gains(table[term.figure.name]) - middle) / deviation
            there = ~np.isnan(scores)
            total[there] += term.weight * scores[there]
            weights[there] += term.weight
        found = [float(total[n] / weights[n]) if weights[n] else None for n in range(len(heard))]
        silent = [bool(each.drawn.columns) and each.drawn.sound is None for each in heard]
        return mean([-MISSED if quiet else value for value, quiet in zip(found, silent, strict=True)])


def _scale(gains: NDArray[np.float64], figure: Figure) -> list[float]:
    """Return the mean of gains, and their deviation or, where takes hardly differ, a tenth of what they are."""
    middle = float(gains.mean()) if len(gains) else 0.0
    # Takes that are all alike at the start would make anything later a matter of thousands.
    least = 10.0 if figure.unit == "%" else 0.1 * abs(middle)
    return [middle, max(float(gains.std()) if len(gains) else 0.0, least) or 1.0]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is there; None if nothing is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
