"""``tts-train demo``: the embedded end-to-end run."""

from __future__ import annotations

from pathlib import Path

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.configuration.select import select
from tts_train.progress import write_line

DEFAULT_FOLDER = Path("runs") / "demo"
"""Holds a folder for each backend."""


def run(verb: str, words: list[str]) -> int:
    """Run the demo of a backend; exit code 70 if a promise is not kept."""
    parser = WordsParser(verb, COMMANDS[verb][1])
    parser.add_argument("--backend", required=True, help="family of models")
    parser.add_argument("--no-plugin", action="append", default=[], help="plugin to leave out")
    parser.add_argument("--out", type=Path, help=f"folder for everything ({DEFAULT_FOLDER / 'BACKEND'})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    from tts_train.demo.journey import show

    plugins = select([*words], configs=False)
    report = show(options.backend, options.out or DEFAULT_FOLDER / options.backend, blocked=plugins.blocked)
    print_report(report, as_json=options.json)
    for name, stage in report["stages"].items():
        write_line(f"{name}: open {stage['report']} in a browser, listen to {stage['spoken']}")
    # As after an internal error: a promise that is not kept is a fault of the program.
    return 0 if report["promises_kept"] else 70
