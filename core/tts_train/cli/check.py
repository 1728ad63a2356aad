"""``tts-train check``: what is in a corpus or a prepared folder, before any time is spent on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tts_train.apart import require_apart
from tts_train.cli import COMMANDS
from tts_train.cli.arguments import with_underscores
from tts_train.cli.output import print_report
from tts_train.progress import Progress


def run(verb: str, words: list[str]) -> int:
    """Describe PATH; exit code 2, after the report, where more rows would be dropped than allowed."""
    parser = argparse.ArgumentParser(prog=f"tts-train {verb}", allow_abbrev=False, description=COMMANDS[verb][1])
    parser.add_argument("path", help="recordings with text, a hub data set, or a folder that prepare wrote")
    parser.add_argument("--corpus_format", default="auto", help="layout, or its columns, as in 'audio|speaker|text'")
    parser.add_argument("--max_dropped", type=float, default=0.05, help="share of rows that may be dropped (0.05)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read audio; 0 reads in this one")
    parser.add_argument("--dropped", type=Path, help="JSONL file to write each dropped row and its reason to")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(with_underscores(words))
    path = Path(options.path)
    if options.dropped is not None and path.exists():
        # A list beside the recordings would be taken for theirs.
        require_apart(
            path if path.is_dir() else path.parent, options.dropped, given="the corpus in", option="--dropped"
        )
    _describe(options)
    return 0


def _describe(options: argparse.Namespace) -> None:
    from tts_train.data.shards import describe_prepared, is_prepared

    if is_prepared(Path(options.path)):
        print_report(describe_prepared(Path(options.path)), as_json=options.json)
        return
    from tts_train.corpus import survey

    with Progress("Reading recordings") as progress:
        survey(
            options.path,
            layout=options.corpus_format,
            max_dropped=options.max_dropped,
            workers=options.workers,
            dropped_path=options.dropped,
            progress=progress.to,
            on_report=lambda report: print_report(report, as_json=options.json),
        )
