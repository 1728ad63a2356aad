"""``tts-train prepare``, ``export`` and ``synth``: a backend's jobs, with their fields as options."""

from __future__ import annotations

from tts_train.cli.helping import HELP, load
from tts_train.cli.importing import first_imports
from tts_train.cli.next_step import after_prepare
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import JSON_FLAG
from tts_train.configuration.select import select
from tts_train.contract.backend import resolve
from tts_train.contract.jobs import PrepareJob
from tts_train.jobs.run import find_job, perform
from tts_train.jobs.sources import any_backend, select_by_source


def run(verb: str, words: list[str]) -> int:
    """Run one of the three commands, and print its report."""
    selection = select(words, configs=False)
    if verb == "prepare":
        if selection.backend is None and HELP & set(words):
            selection = any_backend(selection)
        chosen = load(selection, verb, "prepare")
    else:
        chosen = load(select_by_source(selection), verb, "synth" if verb == "synth" else None)
    found = find_job(verb, chosen, selection.rest)
    with first_imports():
        # Imported here, where the collector is off.
        resolve(found.reference)
    job = found.read()
    print_report(perform(job), as_json=JSON_FLAG in words)
    if isinstance(job, PrepareJob) and JSON_FLAG not in words:
        after_prepare(job.out, chosen.backend, job.fit_options())
    return 0
