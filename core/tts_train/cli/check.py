"""``tts-train check``: what is in a corpus or a prepared folder, before any time is spent on it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tts_train.cli.arguments import with_underscores
from tts_train.cli.output import print_report


def run(verb: str, words: list[str]) -> int:
    """Describe PATH; exit code 2 where more rows would be dropped than allowed."""
    parser = argparse.ArgumentParser(prog=f"tts-train {verb}", allow_abbrev=False, description=__doc__)
    parser.add_argument("path", help="recordings with text, a hub data set, or a folder that prepare wrote")
    parser.add_argument("--corpus_format", default="auto", help="layout of the corpus; auto detects it")
    parser.add_argument("--max_dropped", type=float, default=0.05, help="share of rows that may be dropped (0.05)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read audio; 0 reads in this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(with_underscores(words))
    print_report(_describe(options), as_json=options.json)
    return 0


def _describe(options: argparse.Namespace) -> Mapping[str, Any]:
    from tts_train.data.shards import describe_prepared, is_prepared

    if is_prepared(Path(options.path)):
        return describe_prepared(Path(options.path))
    from tts_train.corpus import survey

    return survey(options.path, layout=options.corpus_format, max_dropped=options.max_dropped, workers=options.workers)
