"""The jobs of a backend, ``prepare``, ``export`` and ``synth``: from what a command or a call says to the report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tts_train.configuration.arguments import JobParser, WordsParser, read_help_texts, with_underscores
from tts_train.configuration.early import check_job
from tts_train.configuration.select import Chosen, select
from tts_train.configuration.settings import words_of
from tts_train.configuration.values import check_numbers
from tts_train.contract.backend import resolve
from tts_train.contract.jobs import Job, SynthJob
from tts_train.contract.reports import ExportReport, PrepareReport, Report, SynthReport
from tts_train.corpus.language import says_nothing
from tts_train.disk.apart import require_allowed
from tts_train.disk.sound_files import check_sound_name
from tts_train.environment import quiet, refuse_unsafe
from tts_train.errors import ConfigError
from tts_train.jobs.checkpoints import HELP, choose_checkpoint
from tts_train.jobs.sources import select_by_source

_SOURCE_HELP = {
    "export": "run directory or checkpoint to export",
    "synth": "run directory, checkpoint or exported model to speak with",
}


def prepare(
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    backend: str,
    **options: Any,  # noqa: ANN401 - values of any option
) -> PrepareReport:
    """Turn recordings and text into training features, as ``tts-train prepare`` does.

    Args:
        source: Recordings with text, as for ``--corpus``.
        out: Folder for the prepared set; the same call again continues or reuses it.
        backend: Which backend prepares.
        options: The command's other options, such as ``stage="gpt"`` or ``workers=4``.

    Returns:
        What the command reports: rows kept and dropped with reasons, hours, the set's hash.

    Raises:
        ConfigError: for an option that there is not, or that cannot be used.
        DataError: if the recordings cannot be used, or more rows would be dropped than ``max_dropped`` allows.
    """
    return cast("PrepareReport", _called("prepare", [], {"backend": backend, "corpus": source, "out": out, **options}))


def export(
    source: str | os.PathLike[str],
    *,
    format: str,
    out: str | os.PathLike[str],
    **options: Any,  # noqa: ANN401 - values of any option
) -> ExportReport:
    """Write a trained model for other tools, read it back and compare, as ``tts-train export`` does.

    Args:
        source: Run directory or checkpoint.
        format: Name of the format; ``tts-train formats`` lists them.
        out: Where the files go.
        options: The command's other options, such as ``checkpoint="best"``.

    Raises:
        ConfigError: for an option that there is not, or that cannot be used.
        DataError: if the source cannot be exported, or does not read back as it was.
    """
    return cast("ExportReport", _called("export", [source], {"format": format, "out": out, **options}))


def speak(source: str | os.PathLike[str], *, text: str, out: str | os.PathLike[str], **options: Any) -> SynthReport:  # noqa: ANN401 - values of any option
    """Speak a text with a trained model, as ``tts-train synth`` does.

    Args:
        source: Run directory, checkpoint or export.
        text: What to say.
        out: Sound file to write.
        options: The command's other options, such as ``speaker="anna"`` or ``seed=3``.

    Raises:
        ConfigError: for an option that there is not, or that cannot be used.
        DataError: if the source cannot speak, or says nothing.
    """
    return cast("SynthReport", _called("synth", [source], {"text": text, "out": out, **options}))


def _called(verb: str, sources: Sequence[str | os.PathLike[str]], options: Mapping[str, Any]) -> Report:
    return perform_words(verb, [*(os.fspath(source) for source in sources), *words_of(options)])


def perform_words(verb: str, words: Sequence[str]) -> Report:
    """Do a job that is given as the words of its command."""
    refuse_unsafe()
    selection = select(words, configs=False)
    if verb == "prepare":
        chosen = selection.load(verb=verb, for_job="prepare")
    else:
        chosen = select_by_source(selection).load(verb=verb, for_job="synth" if verb == "synth" else None)
    return perform(find_job(verb, chosen, selection.rest).read())


@dataclass(frozen=True)
class JobWords:
    """A job that was found, and the words with its options."""

    verb: str
    chosen: Chosen
    reference: type[Job] | str
    words: Sequence[str]

    def read(self) -> Job:
        """Import the job's class and make the job that the words ask for.

        Raises:
            ConfigError: for an option that there is not, or a value that it does not take.
        """
        job_class: type[Job] = resolve(self.reference)
        job, asked = self._parsed(job_class)
        if isinstance(job, SynthJob):
            _require_text(job.text)
        if self.verb in _SOURCE_HELP:
            source: Path = vars(job)["source"]
            return replace(job, **{"source": choose_checkpoint(source, asked)})
        return job

    def _parsed(self, job_class: type[Job]) -> tuple[Job, str | None]:
        verb, chosen = self.verb, self.chosen
        read_help_texts(self.words)
        parser = JobParser(prog=f"tts-train {verb}", description=(job_class.__doc__ or "").strip())
        positional = verb in _SOURCE_HELP
        if positional:
            parser.add_argument("source", type=Path, help=_SOURCE_HELP[verb])
            parser.add_argument("--checkpoint", type=str, metavar="{last,best,STEP}", help=HELP)
        parser.add_class_arguments(job_class, None, skip={"source"} if positional else set())
        parser.add_argument("--json", action="store_true", help="print the report as one JSON object, last on stdout")
        parser.asks = f"tts-train {verb} --backend {chosen.backend.name} --stage {chosen.stage.name} --help"
        also = " --format F" if verb == "export" else ""
        how = f"chosen with --backend B --stage S{also}, extensions left out by --no-plugin NAME"
        parser.epilog = f"For {_where(chosen)}; {how}."
        options = parser.parse_args(with_underscores(list(self.words)))
        options.pop("json")
        asked = options.pop("checkpoint", None)
        check_numbers(options.as_dict())
        return job_class(**parser.instantiate(options).as_dict()), asked


def find_job(verb: str, chosen: Chosen, words: Sequence[str]) -> JobWords:
    """Return the job that a command means, with the words that are its options; nothing is imported.

    Raises:
        ConfigError: if the stage has no such job, or an option is none of it.
    """
    rest = list(words)
    if verb == "export":
        reference, rest = _format_of(chosen, rest)
    else:
        reference = chosen.stage.prepare if verb == "prepare" else chosen.stage.synth
    if reference is None:
        raise ConfigError(f"Stage {chosen.stage.name!r} of backend {chosen.backend.name!r} offers no {verb}.")
    check_job(verb, reference, rest, chosen)
    return JobWords(verb, chosen, reference, rest)


def perform(job: Job) -> Report:
    """Do a job where its output may go, and put what a run said on its page."""
    if isinstance(out := getattr(job, "out", None), Path):
        require_allowed(out)
    # Before anything is loaded, and before anything is written.
    job.check_places()
    if isinstance(job, SynthJob):
        check_sound_name(job.out)
    with quiet():
        report = job.run()
    if isinstance(job, SynthJob) and (job.source / "checkpoints").is_dir():
        from tts_train.report.page import keep_spoken

        page = str(keep_spoken(job.source, job.out, name=job.out.stem, text=job.text))
        report = replace(report, more={**report.more, "report": page})
    return report


def _format_of(chosen: Chosen, words: list[str]) -> tuple[type[Job] | str | None, list[str]]:
    formats = chosen.plugins.formats(chosen.stage)
    parser = WordsParser("", add_help=False)
    parser.add_argument("--format", dest="name")
    found, rest = parser.parse_known_args(words)
    if found.name not in formats:
        given = "No format was given" if found.name is None else f"{found.name!r} is not a format"
        known = "; ".join(f"{key} ({format_.summary})" for key, format_ in formats.items()) or "none"
        raise ConfigError(f"{given} of {_where(chosen)}. Choose one with --format: {known}.")
    return formats[found.name].job, rest


def _where(chosen: Chosen) -> str:
    return f"stage {chosen.stage.name!r} of backend {chosen.backend.name!r}"


def _require_text(text: str) -> None:
    """Say it before a model is loaded."""
    if says_nothing(text):
        raise ConfigError(f"--text takes something to say, and {text!r} was given.")
