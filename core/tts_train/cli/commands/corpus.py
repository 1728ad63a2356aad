"""``tts-train corpus``: from recordings to a corpus that every backend's ``prepare`` reads, verb by verb."""

from __future__ import annotations

from tts_train.cli.output import print_report
from tts_train.configuration.arguments import JSON_FLAG
from tts_train.jobs.corpus import VERBS, find_verb
from tts_train.jobs.run import perform


def run(verb: str, words: list[str]) -> int:
    """Run one verb, print its report, and the commands that come next."""
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage(verb))
        return 0
    figures = perform(find_verb(words[0], words[1:])).as_dict()
    if JSON_FLAG in words:
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


def _usage(verb: str) -> str:
    width = max(map(len, VERBS), default=0)
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in VERBS.items()]
    return "\n".join(
        [
            f"usage: tts-train {verb} COMMAND [options]",
            "",
            "Make a corpus folder of recordings, and correct it; prepare of every backend reads it.",
            "",
            *lines,
            "",
            f"'tts-train {verb} COMMAND --help' lists the options of a command.",
        ]
    )
