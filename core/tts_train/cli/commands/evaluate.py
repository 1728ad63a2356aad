"""``tts-train eval``: what sources say, scored and compared on the same sentences."""

from __future__ import annotations

from tts_train.cli.helping import load
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import JSON_FLAG
from tts_train.configuration.select import select
from tts_train.errors import DataError
from tts_train.jobs.evaluate import Evaluation
from tts_train.jobs.sources import select_by_source

_SHOWN = ("sentences", "held_out", "sources", "silent", "failed", "not_measured", "out")


def run(verb: str, words: list[str]) -> int:
    """Compare the sources; the table goes to stderr, the report to stdout. Exit code 2 where one said nothing."""
    selection = select_by_source(select(words, configs=False))
    chosen = load(selection, verb, "synth")
    report = Evaluation.parse(verb, chosen, selection.rest).run()
    as_json = JSON_FLAG in words
    print_report(report if as_json else {name: report[name] for name in _SHOWN}, as_json=as_json)
    return DataError.exit_code if report["silent"] else 0
