"""``tts-train eval``: what sources say, scored and compared on the same sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tts_train.configuration.select import Chosen, select
from tts_train.configuration.settings import words_of
from tts_train.contract.jobs import SynthJob
from tts_train.disk.apart import require_allowed, require_apart
from tts_train.disk.provenance import read_provenance
from tts_train.environment import quiet, refuse_unsafe
from tts_train.errors import ConfigError, DataError
from tts_train.jobs.checkpoints import choose_checkpoint
from tts_train.jobs.sources import select_by_source
from tts_train.jobs.speaking import SpeakingWords
from tts_train.progress import write_line

# What `tts-train eval` does.
_SUMMARY = "Score what runs, checkpoints or exports say, side by side."


@dataclass(kw_only=True)
class EvalOptions:
    """What is compared, and on what."""

    data: Path
    """Recordings with text, as for prepare; sentences that no source was trained on are taken from it."""
    out: Path
    """Folder for sounds, rows.parquet, scores.json and scores.md."""
    sentences: int = 20
    """How many sentences, spread over languages and speakers."""
    metrics: str = ""
    """Metrics to measure, with commas between; empty measures all that can be."""
    base: str | None = None
    """Base model to stand beside the sources: a folder or a hub name."""
    split: Literal["held_out", "learned", "all"] = "held_out"
    """Sentences to choose from: ``held_out`` leaves out what a source was trained on, as far as it is known;
    ``learned`` takes only that."""
    language: str | None = None
    """Language of rows that name none, such as ``en``; some metrics need it."""
    corpus_format: str = "auto"
    """Layout of the corpus; ``auto`` detects it."""
    weights: dict[str, str] = field(default_factory=dict)
    """Models of yours by metric: ``--weights.recognition large-v3``, ``--weights.wavlm FOLDER``."""
    checkpoint: str | None = None
    """Checkpoint of each run: last (the newest, the default), best (by --checkpoint.monitor), or a step's number."""


def evaluate(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    **options: Any,  # noqa: ANN401 - values of any option
) -> dict[str, Any]:
    """Score what sources say and compare them on the same sentences, as ``tts-train eval`` does.

    Args:
        sources: Run directories, checkpoints or exports.
        data: Recordings with text.
        out: Folder for sounds, rows.parquet, scores.json and scores.md.
        options: The command's other options, such as ``sentences=5`` or ``metrics="duration"``.

    Returns:
        The report, as ``scores.json`` holds it; ``silent`` names the sources that said nothing.

    Raises:
        ConfigError: for an option that there is not, or that cannot be used.
        DataError: if a source or the recordings cannot be used.
    """
    refuse_unsafe()
    each = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    words = [*(os.fspath(one) for one in each), *words_of({"data": data, "out": out, **options})]
    selection = select(words, configs=False)
    chosen = select_by_source(selection).load(verb="eval", for_job="synth")
    return Evaluation.parse("eval", chosen, selection.rest).run()


@dataclass(frozen=True)
class Evaluation:
    """A comparison that a command or a call asks for."""

    chosen: Chosen
    sources: Sequence[str]
    options: EvalOptions
    voice: Mapping[str, Any]
    """Options of the job that speaks."""
    job_class: type[SynthJob]

    @classmethod
    def parse(cls, verb: str, chosen: Chosen, words: Sequence[str]) -> Evaluation:
        """Read the words of the command.

        Raises:
            ConfigError: for an option that there is not, or a value that it does not take.
        """
        about = "run directories, checkpoints or exported models to compare"
        read = SpeakingWords.read(verb, chosen, words, EvalOptions, summary=_SUMMARY, sources=about, most="+")
        if read.options.sentences < 1:
            raise ConfigError(f"--sentences is 1 or more, not {read.options.sentences}.")
        return cls(chosen, read.sources, read.options, read.voice, read.job_class)

    def run(self) -> dict[str, Any]:
        """Speak, score and compare; the table goes to stderr."""
        _require_one_stage(self.sources, self.chosen)
        jobs = _jobs(self.sources, self.options, self.voice, self.job_class)
        with quiet():
            return _evaluate(jobs, self.options, self.chosen, seed=self.voice["seed"])


def _require_one_stage(sources: Sequence[str], chosen: Chosen) -> None:
    """Sources of another backend would need other options; models of other tools say nothing and are taken."""
    for source in sources:
        if not Path(source).exists():
            continue
        try:
            card = read_provenance(Path(source))
        except DataError:
            continue
        if card.backend != chosen.backend.name:
            raise ConfigError(
                f"{source} belongs to backend {card.backend!r}, the others to {chosen.backend.name!r}. Evaluate it by "
                "itself, with the same --data and --seed."
            )


def _jobs(
    sources: Sequence[str], options: EvalOptions, voice: Mapping[str, Any], job_class: type[SynthJob]
) -> dict[str, SynthJob]:
    from tts_train.scoring.speaking import BASE

    labels = _labels(sources)
    named = dict(zip(labels, sources, strict=True)) | ({BASE: options.base} if options.base else {})
    # One job for all but its source: sources are compared under the same options.
    # Text and file are placeholders: each sentence brings its own.
    job = job_class(source=Path(sources[0]), text="-", out=options.out, **voice)
    return {label: replace(job, source=_checkpoint(label, Path(source), options)) for label, source in named.items()}


def _checkpoint(label: str, source: Path, options: EvalOptions) -> Path:
    """Return the checkpoint of a run, and say which one it is; any other source as it is."""
    from tts_train.scoring.speaking import BASE

    is_run = (source / "checkpoints").is_dir()
    return choose_checkpoint(source, options.checkpoint if is_run and label != BASE else None, name=label)


def _labels(sources: Sequence[str]) -> list[str]:
    """Name sources by their last parts, as many of them as tell them apart."""
    from tts_train.scoring.speaking import BASE, CEILING, RECORDING, folder_name

    spelt = [str(Path(source)) for source in sources]  # a slash at the end makes no other source
    if twice := sorted({source for source in spelt if spelt.count(source) > 1}):
        raise ConfigError(f"A source is named twice: {', '.join(twice)}. Give each once.")
    paths = [Path(source).parts for source in sources]
    # Their folders must differ, too, and must not be those of the recordings.
    for length in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(parts[-length:]) for parts in paths]
        folders = {folder_name(label) for label in labels}
        if len(folders) == len(labels) and not {RECORDING, CEILING, BASE} & folders:
            return labels
    return [f"source {number}" for number in range(1, len(sources) + 1)]


def _evaluate(jobs: dict[str, SynthJob], options: EvalOptions, chosen: Chosen, *, seed: int) -> dict[str, Any]:
    require_allowed(options.out)
    # Sounds below the recordings would be taken for recordings by the next command.
    require_apart(options.data, options.out, given="--data")
    for job in jobs.values():
        job.check_places()
    from tts_train.scoring.evaluation import TABLE, evaluate
    from tts_train.scoring.metrics.catalogue import choose
    from tts_train.scoring.sentences import choose_sentences, learned_by, was_learned
    from tts_train.scoring.speaking import BASE

    names = [name.strip() for name in options.metrics.split(",") if name.strip()]
    metrics, missing = choose(chosen.plugins.metrics(chosen.stage, options.weights), names)
    learned = [learned_by(job.source) for label, job in jobs.items() if label != BASE]
    sentences = choose_sentences(
        options.data,
        count=options.sentences,
        which=options.split,
        learned=lambda row_id: was_learned(row_id, learned),
        language=options.language,
        layout=options.corpus_format,
        seed=seed,
    )
    report = evaluate(jobs, sentences, metrics, out=options.out, seed=seed, missing=missing)
    write_line((options.out / TABLE).read_text(encoding="utf-8"))
    return report
