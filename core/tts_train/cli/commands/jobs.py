"""``tts-train prepare``, ``export`` and ``synth``: a backend's jobs, with their fields as options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tts_train.cli.checkpoints import HELP, choose_checkpoint
from tts_train.cli.importing import first_imports
from tts_train.cli.output import print_report
from tts_train.cli.parsing.arguments import JSON_FLAG, JobParser, WordsParser, read_help_texts, with_underscores
from tts_train.cli.parsing.early import check_job
from tts_train.cli.parsing.select import Chosen, Selection, select
from tts_train.contract.backend import Stage, resolve
from tts_train.contract.jobs import Job, SynthJob
from tts_train.disk.file_names import require_allowed
from tts_train.disk.provenance import Provenance, read_provenance
from tts_train.errors import ConfigError, DataError
from tts_train.language import says_nothing
from tts_train.plugins import installed_backends

_FLAGS = {JSON_FLAG, "-h", "--help"}
_SOURCE_HELP = {
    "export": "run directory or checkpoint to export",
    "synth": "run directory, checkpoint or exported model to speak with",
}


def run(verb: str, words: list[str]) -> int:
    """Run one of the three commands."""
    selection = select(words, configs=False)
    if verb == "prepare":
        if selection.backend is None and {"-h", "--help"} & set(words):
            selection = _any_backend(selection)
        chosen = selection.load(verb=verb, for_job="prepare")
        reference: type[Job] | str | None = chosen.stage.prepare
        rest = list(selection.rest)
    else:
        chosen = select_by_source(selection).load(verb=verb, for_job="synth" if verb == "synth" else None)
        reference, rest = _job_of(verb, chosen, list(selection.rest))
    if reference is None:
        raise ConfigError(f"Stage {chosen.stage.name!r} of backend {chosen.backend.name!r} offers no {verb}.")
    check_job(verb, reference, rest, chosen)
    with first_imports():
        job_class: type[Job] = resolve(reference)
    job, as_json = _parse(verb, job_class, rest, chosen)
    if isinstance(out := getattr(job, "out", None), Path):
        require_allowed(out)
    job.check_places()
    report = job.run()
    if isinstance(job, SynthJob) and (job.source / "checkpoints").is_dir():
        from tts_train.report.spoken import keep_spoken

        page = str(keep_spoken(job.source, job.out, name=job.out.stem, text=job.text))
        report = replace(report, more={**report.more, "report": page})
    print_report(report, as_json=as_json)
    return 0


def _any_backend(selection: Selection) -> Selection:
    """For help without a backend: the only one there is, or an error that lists them."""
    names = [found.name for found in installed_backends()]
    return replace(selection, backend=names[0]) if len(names) == 1 else selection


def select_by_source(selection: Selection) -> Selection:
    """Backend and stage of what is exported or spoken with: from its own card, unless given."""
    if selection.backend is not None:
        return selection
    sources = list(_positionals(selection.rest))
    if not sources:
        return _any_backend(selection)
    card = _first_card(sources)
    return replace(selection, backend=card.backend, stage=selection.stage or card.stage)


def _first_card(sources: Sequence[str]) -> Provenance:
    """Return the card of the first source that has one; only ``eval`` takes several.

    Raises:
        DataError: about the first, if none has one.
    """
    for source in sources:
        with suppress(DataError):
            return read_provenance(Path(source))
    return read_provenance(Path(sources[0]))


def _positionals(words: Sequence[str]) -> Iterator[str]:
    """Yield the words that are neither an option nor an option's value."""
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            yield word
        elif "=" not in word and word not in _FLAGS:
            next(left, None)


def _job_of(verb: str, chosen: Chosen, rest: list[str]) -> tuple[type[Job] | str | None, list[str]]:
    if verb == "synth":
        return chosen.stage.synth, rest
    formats = chosen.plugins.formats(chosen.stage)
    name, rest = _pop_option(rest, "--format")
    if name not in formats:
        given = "No format was given" if name is None else f"{name!r} is not a format"
        known = "; ".join(f"{key} ({format_.summary})" for key, format_ in formats.items()) or "none"
        raise ConfigError(f"{given} of {_where(chosen)}. Choose one with --format: {known}.")
    return formats[name].job, rest


def _where(chosen: Chosen) -> str:
    stage: Stage = chosen.stage
    return f"stage {stage.name!r} of backend {chosen.backend.name!r}"


def _pop_option(words: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    parser = WordsParser("", add_help=False)
    parser.add_argument(option, dest="value")
    found, rest = parser.parse_known_args(words)
    return found.value, rest


def _parse(verb: str, job_class: type[Job], words: list[str], chosen: Chosen) -> tuple[Job, bool]:
    from tts_train.cli.parsing.values import check_numbers

    read_help_texts(words)
    parser = JobParser(prog=f"tts-train {verb}", description=(job_class.__doc__ or "").strip())
    positional = verb in _SOURCE_HELP
    if positional:
        parser.add_argument("source", type=Path, help=_SOURCE_HELP[verb])
        parser.add_argument("--checkpoint", type=str, metavar="{last,best,STEP}", help=HELP)
    parser.add_class_arguments(job_class, None, skip={"source"} if positional else set())
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object, last on stdout")
    parser.asks = f"tts-train {verb} --backend {chosen.backend.name} --stage {chosen.stage.name} --help"
    parser.epilog = _epilog(verb, chosen)
    options = parser.parse_args(with_underscores(words))
    as_json, asked = bool(options.pop("json")), options.pop("checkpoint", None)
    check_numbers(options.as_dict())
    values = parser.instantiate(options).as_dict()
    job = job_class(**values)  # wrong values are told first
    if isinstance(job, SynthJob):
        _require_text(job.text)
    chosen_source = {"source": choose_checkpoint(values["source"], asked)} if positional else {}
    return replace(job, **chosen_source), as_json


def _require_text(text: str) -> None:
    """Say it before a model is loaded."""
    if says_nothing(text):
        raise ConfigError(f"--text takes something to say, and {text!r} was given.")


def _epilog(verb: str, chosen: Chosen) -> str:
    also = " --format F" if verb == "export" else ""
    return f"For {_where(chosen)}; chosen with --backend B --stage S{also}, extensions left out by --no-plugin NAME."
