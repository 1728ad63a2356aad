"""Recompute every figure of reference files with our own code: ``python -m tests.orpheus.parity FILE.json…``"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.figures import Figure
from tts_train.errors import TTSTrainError

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


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a figure and return 0 if all are within tolerance, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.orpheus.parity", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    total = failed = 0
    for path in parser.parse_args(argv).files:
        for figure in check_file(path):
            print(f"{path.name}: {figure}", flush=True)
            total += 1
            failed += not figure.ok
    print(f"{total - failed} of {total} figures ok, {failed} FAIL")
    return 1 if failed else 0


def check_file(path: Path) -> Iterator[Figure]:
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


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of one reference file; its fields tell which kind it is."""
    config = data.get("config", {})
    if "inv_freq" in data or "audio_base" in data:
        from tests.orpheus import parity_sequence as kind
    elif "encoder_dim" in config:
        from tests.orpheus import parity_snac as kind
    elif "hidden_size" in config:
        from tests.orpheus import parity_llama as kind
    else:
        yield Figure("kind", "a known kind of file", sorted(data), note="no runner knows this kind of file")
        return
    yield from kind.check(data)


if __name__ == "__main__":
    sys.exit(main())
