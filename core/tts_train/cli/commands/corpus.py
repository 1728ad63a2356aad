"""``tts-train corpus``: from recordings to a corpus that every backend's ``prepare`` reads, verb by verb."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from tts_train.cli.output import print_report
from tts_train.configuration.arguments import JSON_FLAG, JobParser, read_help_texts, with_underscores
from tts_train.configuration.values import check_numbers, nearest
from tts_train.contract.backend import resolve
from tts_train.curation.job import CorpusVerb
from tts_train.errors import ConfigError
from tts_train.jobs.run import perform

VERBS: dict[str, tuple[str, str]] = {
    "slice": ("tts_train.curation.slicing.job:CorpusSlice", "cut long recordings to utterances, and account for all"),
    "transcribe": (
        "tts_train.curation.recognition.job:CorpusTranscribe",
        "write down what is said in clips that have no text",
    ),
    "review": (
        "tts_train.curation.review.job:CorpusReview",
        "write a table and a page with players, the most suspicious clips first, for a person to correct",
    ),
    "apply": (
        "tts_train.curation.review.apply:CorpusApply",
        "bring an edited table into the folder, or undo what one brought",
    ),
    "speakers": ("tts_train.curation.speakers.identify:CorpusSpeakers", "tell whose voice each clip is, and name them"),
    "merge": ("tts_train.curation.exchange.merge:CorpusMerge", "bring corpora of any layout into one corpus folder"),
    "split": ("tts_train.curation.exchange.split:CorpusSplit", "hold rows out for validation and test"),
    "export": ("tts_train.curation.exchange.export:CorpusExport", "write a corpus folder in another layout"),
}
"""Verb to the class of its job, and what it does."""


def run(verb: str, words: list[str]) -> int:
    """Run one verb, print its report, and the commands that come next."""
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage(verb))
        return 0
    name, rest = words[0], words[1:]
    if name not in VERBS:
        near = nearest(name, VERBS)
        raise ConfigError(f"There is no command 'corpus {name}'.{near} The commands are: {', '.join(VERBS)}.")
    report = perform(_job(f"{verb} {name}", resolve(VERBS[name][0]), rest))
    figures = report.as_dict()
    if JSON_FLAG in rest:
        print_report(figures, as_json=True)
        return 0
    commands = figures.pop("next", [])
    for each in figures.pop("changes", []):
        print(f"{each['clip']}: {each['field']}: {each['before']!r} -> {each['after']!r}")
    print_report(figures, as_json=False)
    if commands:
        print("\nNext, a line at a time:\n")
        print("\n".join(map(str, commands)))
    return 0


def _job(verb: str, job_class: type[CorpusVerb], words: list[str]) -> CorpusVerb:
    read_help_texts(words)
    parser = JobParser(prog=f"tts-train {verb}", description=(job_class.__doc__ or "").strip())
    name = job_class.positional
    about = next(each for each in fields(job_class) if each.name == name)
    many = "list" in str(about.type).lower()
    parser.add_argument(name, type=Path, nargs="+" if many else None, help=job_class.positional_help)
    parser.add_class_arguments(job_class, None, skip={name})
    parser.add_argument(JSON_FLAG, action="store_true", help="print the report as one JSON object, last on stdout")
    options = parser.parse_args(with_underscores(words))
    options.pop("json")
    check_numbers(options.as_dict())
    return job_class(**parser.instantiate(options).as_dict())


def _usage(verb: str) -> str:
    width = max(map(len, VERBS), default=0)
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in VERBS.items()]
    return "\n".join(
        [
            f"usage: tts-train {verb} COMMAND [options]",
            "",
            "Make a corpus of recordings, and mend it: what prepare of every backend reads.",
            "",
            *lines,
            "",
            f"'tts-train {verb} COMMAND --help' lists the options of a command.",
        ]
    )
