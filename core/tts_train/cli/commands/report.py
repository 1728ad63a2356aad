"""``tts-train report``: the page about a run, at any time. It imports no torch."""

from __future__ import annotations

from pathlib import Path

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.disk.apart import require_allowed
from tts_train.errors import ConfigError, DiskError
from tts_train.report.page import REPORT_FILE, write_report


def run(verb: str, words: list[str]) -> int:
    """Write the page.

    Raises:
        ConfigError: if the folder is no run.
        DiskError: if the page cannot be written.
    """
    parser = WordsParser(verb, COMMANDS[verb][1])
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that fit wrote")
    parser.add_argument("--out", type=Path, help=f"file to write; by default RUN/{REPORT_FILE}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    folder: Path = options.run_dir
    if folder.is_dir() and not (folder / "run.json").is_file() and not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} holds no run (no run.json in it). Give a run directory that tts-train fit wrote.")
    if options.out is not None:
        require_allowed(options.out)
    if options.out is not None and options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a folder. Give a file, such as {options.out / REPORT_FILE}.")
    try:
        page = write_report(folder, options.out)
    except OSError as error:
        target = options.out or folder / REPORT_FILE
        raise DiskError(
            f"{target} cannot be written: {error}. Free some space, or give another file with --out."
        ) from error
    print_report({"report": str(page)}, as_json=options.json)
    return 0
