"""``tts-train demo``: the embedded end-to-end run."""

from __future__ import annotations

from pathlib import Path

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.configuration.select import select
from tts_train.errors import ConfigError
from tts_train.progress import write_line

DEFAULT_FOLDER = Path("runs") / "demo"
"""Holds a folder for each backend."""


def run(verb: str, words: list[str]) -> int:
    """Run the demo of a backend; exit code 70 if a promise is not kept."""
    parser = WordsParser(verb, COMMANDS[verb][1])
    parser.add_argument("--backend", help="family of models")
    parser.add_argument("--recording", type=Path, help="only write the sample voice as one long recording, and end")
    parser.add_argument("--no-plugin", action="append", default=[], help="plugin to leave out")
    parser.add_argument("--out", type=Path, help=f"folder for everything ({DEFAULT_FOLDER / 'BACKEND'})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    if options.recording is not None:
        return _record(options.recording, as_json=options.json)
    if options.backend is None:
        raise ConfigError("Name what to show: --backend NAME (tts-train backends lists them), or --recording FILE.")
    from tts_train.demo.journey import show

    plugins = select([*words], configs=False)
    report = show(options.backend, options.out or DEFAULT_FOLDER / options.backend, blocked=plugins.blocked)
    print_report(report, as_json=options.json)
    for name, stage in report["stages"].items():
        write_line(f"{name}: open {stage['report']} in a browser, listen to {stage['spoken']}")
    # As after an internal error: a promise that is not kept is a fault of the program.
    return 0 if report["promises_kept"] else 70


def _record(out: Path, *, as_json: bool) -> int:
    from tts_train.demo.recording import write_recording
    from tts_train.disk.sound_files import check_sound_name

    check_sound_name(out, "--recording")
    print_report(write_recording(out), as_json=as_json)
    return 0
