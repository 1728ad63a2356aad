"""A set of takes from a model and texts: drawn, measured, ranked; or ranked anew where all takes are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_train.contract.jobs import SynthJob
from tts_train.contract.metric import Figure, Metric
from tts_train.datasets.takes import TAKES, TakeSet
from tts_train.disk.files import disk_errors
from tts_train.run.lock import RunLock
from tts_train.sampling.drawing import TakePlan, draw_parts
from tts_train.sampling.guards import GUARDS
from tts_train.sampling.parts import LOCK, Parts, require_begun_alike, schema_of
from tts_train.sampling.ranking import About, Ranking, Wanted, finish
from tts_train.sampling.rewards import choose_terms


def figures_of(metrics: Sequence[Metric]) -> dict[str, Figure]:
    """Return what is measured of each take by name: the guards, then the metrics' figures."""
    # Guards first, as in the table: they need nothing to be installed.
    return {figure.name: figure for figure in (*GUARDS, *(each for metric in metrics for each in metric.figures))}


@dataclass(frozen=True, kw_only=True)
class Making:
    """A set of takes that a command or a call asks for."""

    job: SynthJob
    plan: TakePlan
    metrics: Sequence[Metric]
    asked: Wanted
    about: About
    out: Path

    def run(self) -> dict[str, Any]:
        """Draw what is not there yet, rank all takes, and return what the set says of itself, with its pairs.

        Raises:
            ConfigError: if the folder holds other takes, or the reward cannot be used.
            DataError: if the model gives no sound.
        """
        figures, columns = figures_of(self.metrics), self.job.drawn_columns()
        schema = schema_of(list(figures), columns)
        # Refused before anything is drawn.
        choose_terms(self.asked.wishes, figures, missing=self.about.missing)
        require_begun_alike(self.out, self.about.settings)
        if not columns:
            # A job that keeps nothing says so before it opens anything.
            list(self.job.draw([]))
        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        # Two commands that write one set would each undo what the other did.
        with RunLock(self.out / LOCK, option="--out"):
            parts = Parts(self.out, schema, self.about.settings)
            parts.begin()
            files, lacking = self._taken(parts)
            ranking = Ranking(files, figures, list(columns))
            said = finish(self.out, ranking, schema, self.asked, self.about, lacking)
            parts.remove()
        return {**said, **self._pairs(), "out": str(self.out)}

    def _taken(self, parts: Parts) -> tuple[list[Path], Any]:
        # Another reward ranks takes that are there: no weights are loaded for it.
        if parts.complete:
            parts.require_whole()
            return [self.out / TAKES], parts.reopened()
        draw_parts(self.job, self.plan, self.metrics, parts)
        count = len(self.plan.parts)
        return parts.files(count), parts.lacking(count)

    def _pairs(self) -> Mapping[str, Any]:
        # Of any margin: how large it must be is for the stage that learns from them.
        pairs, without = TakeSet(self.out).pairs(margin=0.0)
        return {"pairs": len(pairs), "without_pair": dict(without)}
