"""``tts-train sample``: many takes of each text, measured and ranked, for stages that learn from them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tts_train.configuration.select import Chosen, select
from tts_train.configuration.settings import words_of
from tts_train.contract.jobs import SynthJob
from tts_train.disk.apart import require_allowed, require_apart
from tts_train.environment import quiet, refuse_unsafe
from tts_train.errors import ConfigError, quoted
from tts_train.jobs.checkpoints import choose_checkpoint
from tts_train.jobs.sources import select_by_source
from tts_train.jobs.speaking import SpeakingWords
from tts_train.progress import write_line

if TYPE_CHECKING:
    from tts_train.contract.backend import Backend
    from tts_train.contract.metric import Figure
    from tts_train.sampling.ranking import About
    from tts_train.sampling.rewards import Wish
    from tts_train.sampling.texts import Texts

_SUMMARY = "Draw many takes of each text, measure them, and rank them by a reward."
_LEAST = 2
PREFERENCES = "dpo"
"""The stage that learns from pairs of takes."""


@dataclass(kw_only=True)
class SampleOptions:
    """Of which texts takes are drawn, and what counts."""

    texts: Path
    """Sentences, one a line; a .csv or .jsonl with text and, if need be, id, speaker and language; recordings with
    text, as for prepare, which then serve as references; or a prepared folder."""
    out: Path
    """Folder for takes.parquet, takes.json and sounds; the same command goes on where it was stopped."""
    n: int = 8
    """Takes of each text."""
    reward: str = ""
    """What counts: figures or short words with a weight and, if need be, a floor, as in ``words:1, speaker:0.3:0.7,
    stop:1``; empty takes what is usual and can be measured. Another one ranks the same takes anew."""
    metrics: str = ""
    """Metrics to measure, with commas between; empty measures all that can be."""
    keep: Literal["pairs", "all", "none"] = "pairs"
    """Sounds to keep: ``pairs`` the best and the worst of each text."""
    recordings: Path | None = None
    """Recordings that stand for the speakers of texts that have none, for metrics that compare voices."""
    sentences: int = 0
    """How many of the texts, in turns between languages and speakers; 0 takes all."""
    split: Literal["all", "held_out", "learned"] = "all"
    """Texts to choose from: ``held_out`` leaves out what the source was trained on, ``learned`` takes only that."""
    language: str | None = None
    """Language of texts that name none, such as ``en``; some metrics need it."""
    corpus_format: str = "auto"
    """Layout of a corpus; ``auto`` detects it."""
    weights: dict[str, str] = field(default_factory=dict)
    """Models of yours by metric: ``--weights.recognition large-v3``, ``--weights.wavlm FOLDER``."""
    checkpoint: str | None = None
    """Checkpoint of the run: last (the newest, the default), best (by --checkpoint.monitor), or a step's number."""


def sample(
    source: str | os.PathLike[str],
    *,
    texts: str | os.PathLike[str],
    out: str | os.PathLike[str],
    **options: Any,  # noqa: ANN401 - values of any option
) -> dict[str, Any]:
    """Draw many takes of each text, measure and rank them, as ``tts-train sample`` does.

    Args:
        source: Run directory, checkpoint or export.
        texts: Sentences, a table of them, recordings with text, or a prepared folder.
        out: Folder for the takes; the same call goes on where it was stopped.
        options: The command's other options, such as ``n=4`` or ``reward="words:1, stop:1"``.

    Returns:
        The report, as ``takes.json`` holds it, with the number of texts that give a pair.

    Raises:
        ConfigError: for an option that there is not, or that cannot be used.
        DataError: if the source or the texts cannot be used.
    """
    refuse_unsafe()
    selection = select([os.fspath(source), *words_of({"texts": texts, "out": out, **options})], configs=False)
    chosen = select_by_source(selection).load(verb="sample", for_job="synth")
    return TakeSampling.parse("sample", chosen, list(selection.rest)).run()


@dataclass(frozen=True)
class TakeSampling:
    """A set of takes that a command or a call asks for."""

    chosen: Chosen
    options: SampleOptions
    job: SynthJob
    """Speaks; its source is what was named."""

    @classmethod
    def parse(cls, verb: str, chosen: Chosen, words: list[str]) -> TakeSampling:
        """Read the words of the command.

        Raises:
            ConfigError: for an option that there is not, or a value that it does not take.
        """
        about = "run directory, checkpoint or exported model to speak with"
        read = SpeakingWords.read(verb, chosen, words, SampleOptions, summary=_SUMMARY, sources=about, most="1")
        options = read.options
        if options.n < _LEAST:
            raise ConfigError(f"--n is {_LEAST} or more, as takes of a text are compared, not {options.n}.")
        if options.sentences < 0:
            raise ConfigError(f"--sentences is 1 or more, or 0 for all, not {options.sentences}.")
        # The text is a placeholder: each line brings its own.
        job = read.job_class(source=Path(read.sources[0]), text="-", out=options.out, **read.voice)
        return cls(chosen, options, job)

    def run(self) -> dict[str, Any]:
        """Draw, measure and rank; the table goes to stderr."""
        options = self.options
        require_allowed(options.out)
        for given, path in (("--texts", options.texts), ("--recordings", options.recordings)):
            if path is not None:
                # Sounds below the recordings would be taken for recordings by the next command.
                require_apart(path, options.out, given=given)
        # Before a model is opened, which may take a minute.
        self.job.check_places()
        with quiet():
            return self._made()

    def _made(self) -> dict[str, Any]:
        from tts_train.report.takes_page import write_takes_page
        from tts_train.sampling.drawing import TakePlan
        from tts_train.sampling.making import Making, figures_of
        from tts_train.sampling.ranking import Wanted
        from tts_train.sampling.table import table_of
        from tts_train.scoring.metrics.catalogue import choose

        options, chosen = self.options, self.chosen
        names = [name.strip() for name in options.metrics.split(",") if name.strip()]
        metrics, missing = choose(chosen.plugins.metrics(chosen.stage, options.weights), names)
        asked = Wanted(wishes=_wishes(options.reward, figures_of(metrics)), keep=options.keep)
        job = replace(self.job, source=_opened(self.job.source, options.checkpoint))
        # A run may hold its takes; what lay in a checkpoint or an export would be taken for a part of the model.
        require_apart(job.source, options.out, given="the source")
        texts = self._texts(job.source)
        plan = TakePlan(texts=texts, n=options.n, seed=job.seed, sounds=options.keep != "none")
        about = self._about(job, texts, [metric.name for metric in metrics], missing)
        said = Making(job=job, plan=plan, metrics=metrics, asked=asked, about=about, out=options.out).run()
        write_line(table_of(said))
        page = write_takes_page(options.out, onward=learning_command(said, chosen.backend))
        return {**said, "page": str(page)}

    def _texts(self, source: Path) -> Texts:
        from tts_train.sampling.texts import read_texts
        from tts_train.scoring.sentences import learned_by, was_learned

        options = self.options
        learned = [learned_by(source)]
        return read_texts(
            options.texts,
            which=options.split,
            learned=lambda row_id: was_learned(row_id, learned),
            count=options.sentences,
            language=options.language,
            layout=options.corpus_format,
            recordings=options.recordings,
            speaker=self.job.speaker,
            seed=self.job.seed,
        )

    def _about(self, job: SynthJob, texts: Texts, metrics: Sequence[str], missing: Mapping[str, str]) -> About:
        from tts_train.sampling.identity import hash_weights, options_of
        from tts_train.sampling.ranking import About

        stage = {"backend": self.chosen.backend.name, "stage": self.chosen.stage.name}
        # Not the path: a run that was moved says the same.
        settings = {
            **stage,
            "weights_hash": hash_weights(job.source),
            "texts_hash": texts.hash,
            "n": self.options.n,
            "metrics": ",".join(metrics),
            "weights": dict(self.options.weights),
            "recordings": None if self.options.recordings is None else str(self.options.recordings),
            **options_of(job),
        }
        return About(
            **stage,
            # The run as it was named: a stage that starts from it finds the newest, unless another was asked for.
            source=str(self.job.source if self.options.checkpoint is None else job.source),
            settings=settings,
            data=job.known(),
            left_out=texts.left_out,
            missing=missing,
        )


def learning_command(said: Mapping[str, Any], backend: Backend) -> list[str]:
    """Return the command that learns from the pairs of a set of takes; none where there are no pairs or no such stage.

    Args:
        said: What the set says of itself.
        backend: Whose takes they are.
    """
    if not said["pairs"] or PREFERENCES not in (stage.name for stage in backend.stages):
        return []
    options = ("--backend", backend.name, "--stage", PREFERENCES, "--model.init_from", said["source"])
    return [quoted("tts-train", "fit", *options, "--data.path", said["out"])]


def _opened(source: Path, asked: str | None) -> Path:
    """Return the checkpoint of a run that speaks: one alone, also while the run goes on; any other source as it is."""
    from tts_train.run.checkpoint import is_run, open_checkpoint

    found = choose_checkpoint(source, asked)
    return open_checkpoint(found).path if is_run(found) else found


def _wishes(reward: str, figures: Mapping[str, Figure]) -> Sequence[Wish]:
    """Return what is rewarded, and say so where nobody said it."""
    from tts_train.sampling.rewards import default_wishes, read_reward

    # What was asked for must be measured; what is usual is taken as far as it is.
    if reward.strip():
        return read_reward(reward)
    wishes, absent = default_wishes(figures)
    left = f" Not measured, and so left out: {', '.join(absent)}." if absent else ""
    write_line(f"Reward: {', '.join(f'{wish.name}:{wish.weight:g}' for wish in wishes)} (--reward).{left}")
    return wishes
