"""The main loop of a parity runner: recompute reference files, print a line a figure, fail on any that is off."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.figures import Figure
from tts_train.errors import TTSTrainError

Check = Callable[[dict[str, Any]], Iterator[Figure]]

# What a file that does not follow its format can raise; it fails that file, and the others are still checked.
_FAULTS = (
    TTSTrainError,
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    ImportError,
    OSError,
    ArithmeticError,
)


def run(check: Check, argv: Sequence[str] | None, *, prog: str, description: str | None) -> int:
    """Print a line a figure and return 0 if all are within tolerance, else 1."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    total = failed = 0
    for path in parser.parse_args(argv).files:
        for figure in check_file(check, path):
            print(f"{path.name}: {figure}", flush=True)
            total += 1
            failed += not figure.ok
    print(f"{total - failed} of {total} figures ok, {failed} FAIL")
    return 1 if failed else 0


def check_file(check: Check, path: Path) -> Iterator[Figure]:
    """Yield a file's figures; a file that cannot be recomputed to its end yields a figure that fails."""
    count = 0
    try:
        for figure in check(json.loads(path.read_text(encoding="utf-8"))):
            count += 1
            yield figure
    except _FAULTS as error:
        yield Figure("run", "to the end", f"after {count}", note=f"{type(error).__name__}: {error}")
    else:
        if not count:
            yield Figure("run", "some figures", "none", note="the file holds no figures")
