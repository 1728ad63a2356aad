"""The verbs of ``tts-train corpus``: from what a command or a call says to the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tts_train.configuration.arguments import JSON_FLAG, JobParser, read_help_texts, with_underscores
from tts_train.configuration.settings import words_of
from tts_train.configuration.values import check_numbers, nearest
from tts_train.contract.backend import resolve
from tts_train.contract.reports import Report
from tts_train.curation.job import CorpusVerb
from tts_train.environment import refuse_unsafe
from tts_train.errors import ConfigError
from tts_train.jobs.run import perform

VERBS: dict[str, tuple[str, str]] = {
    "slice": (
        "tts_train.curation.slicing.job:CorpusSlice",
        "cut long recordings into utterances, and account for every second",
    ),
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


def curate(
    verb: str,
    *sources: str | os.PathLike[str],
    **options: Any,  # noqa: ANN401 - values of any option
) -> Report:
    """Do what ``tts-train corpus VERB`` does: cut, transcribe, review, merge or export recordings.

    Args:
        verb: Which, such as ``"slice"``.
        sources: What the command takes first: recordings, or a corpus folder.
        options: The command's options, such as ``out="my-voice"`` or ``workers=2``.

    Returns:
        What the command reports; ``next`` holds the commands that come next.

    Raises:
        ConfigError: for a verb or an option that there is not, or that cannot be used.
        DataError: if the recordings or the folder cannot be used.
    """
    refuse_unsafe()
    return perform(find_verb(verb, [*(os.fspath(source) for source in sources), *words_of(options)]))


def find_verb(name: str, words: Sequence[str]) -> CorpusVerb:
    """Return the job that a verb and its words mean.

    Raises:
        ConfigError: if there is no such verb, or it has no such option.
    """
    if name not in VERBS:
        near = nearest(name, VERBS)
        raise ConfigError(f"There is no command 'corpus {name}'.{near} The commands are: {', '.join(VERBS)}.")
    return _parsed(f"corpus {name}", resolve(VERBS[name][0]), list(words))


def _parsed(verb: str, job_class: type[CorpusVerb], words: list[str]) -> CorpusVerb:
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
