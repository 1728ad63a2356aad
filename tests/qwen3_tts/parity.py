"""Recompute every figure of reference files with our own code: ``python -m tests.qwen3_tts.parity FILE.json…``"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests import parity
from tests.figures import Figure, unknown

Data = dict[str, Any]

KINDS: tuple[tuple[Callable[[Data], bool], str], ...] = (
    (lambda data: "encoder_config" in data.get("config", {}), "parity_codec:check"),
    (lambda data: "MimiModel" in str(data.get("what")), "parity_codec:check_window"),
    (lambda data: "mel" in data, "parity_speaker:figures"),
    (lambda data: "keys_after" in data, "parity_export:check"),
    (lambda data: "training_upstream_collate" in data, "parity_sequence:check"),
    (lambda data: "max_new_tokens" in data or "suppressed" in data, "parity_generate:check"),
    (lambda data: "lens_text_frames" in data or "frames" in data, "parity_network:check"),
)
"""Which files a function of these modules recomputes, told by their fields; the first line that fits decides."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a figure and return 0 if all are within tolerance, else 1."""
    # A file may have been made with the sizes of another, which lies beside it.
    FOLDERS.extend(Path(word).parent for word in (sys.argv[1:] if argv is None else argv))
    return parity.run(check, argv, prog="python -m tests.qwen3_tts.parity", description=__doc__)


FOLDERS: list[Path] = []
"""Where the files lie that are recomputed."""


def check(data: Data) -> Iterator[Figure]:
    """Yield every figure of one reference file."""
    where = next((where for fits, where in KINDS if fits(data)), None)
    if where is None:
        yield unknown("kind", sorted(data))
    else:
        # Each kind's checks are loaded when a file needs them.
        yield from pkgutil.resolve_name(f"tests.qwen3_tts.{where}")(data)


if __name__ == "__main__":
    # As the module of that name, so that the folders are those that a check sees.
    sys.exit(pkgutil.resolve_name("tests.qwen3_tts.parity:main")())
