"""``tts-train eval`` and ``sample``: what sources say, compared on the same sentences; takes of one, ranked."""

from __future__ import annotations

from tts_train.cli.helping import load
from tts_train.cli.next_step import after_sample
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import JSON_FLAG
from tts_train.configuration.select import Chosen, select
from tts_train.errors import DataError
from tts_train.jobs.evaluate import Evaluation
from tts_train.jobs.sample import TakeSampling
from tts_train.jobs.sources import select_by_source

_COMPARED = ("sentences", "held_out", "sources", "silent", "failed", "not_measured", "out")
_RANKED = ("takes", "texts", "pairs", "ended", "cut_off", "silent", "not_drawn", "hash", "out")


def run(verb: str, words: list[str]) -> int:
    """Run one of the two commands; tables go to stderr, the report to stdout."""
    selection = select_by_source(select(words, configs=False))
    chosen, rest, as_json = load(selection, verb, "synth"), list(selection.rest), JSON_FLAG in words
    return (_sample if verb == "sample" else _evaluate)(chosen, rest, as_json=as_json)


def _evaluate(chosen: Chosen, words: list[str], *, as_json: bool) -> int:
    """Compare the sources. Exit code 2 where one said nothing."""
    report = Evaluation.parse("eval", chosen, words).run()
    print_report(report if as_json else {name: report[name] for name in _COMPARED}, as_json=as_json)
    return DataError.exit_code if report["silent"] else 0


def _sample(chosen: Chosen, words: list[str], *, as_json: bool) -> int:
    report = TakeSampling.parse("sample", chosen, words).run()
    print_report(report if as_json else {name: report[name] for name in _RANKED}, as_json=as_json)
    # Whoever reads JSON needs no advice.
    if not as_json:
        after_sample(report, chosen.backend)
    return 0
