"""Recompute every figure of reference files with our own code: ``python -m tests.qwen3_tts.parity FILE.json…``"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests import parity
from tests.figures import Figure, unknown

Data = dict[str, Any]

KINDS: dict[str, Callable[[Data], bool]] = {
    "codec": lambda data: "encoder_config" in data.get("config", {}) or "MimiModel" in str(data.get("what")),
}
"""Which files ``tests.qwen3_tts.parity_KIND.check`` recomputes, told by their fields; the first that fits does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a figure and return 0 if all are within tolerance, else 1."""
    folders = {Path(word).parent for word in (sys.argv[1:] if argv is None else argv)}
    return parity.run(
        lambda data: check(data, folders), argv, prog="python -m tests.qwen3_tts.parity", description=__doc__
    )


def check(data: Data, folders: Sequence[Path] | set[Path] = ()) -> Iterator[Figure]:
    """Yield every figure of one reference file; ``folders`` are where files lie that this one may be told by."""
    kind = next((kind for kind, fits in KINDS.items() if fits(data)), None)
    if kind is None:
        yield unknown("kind", sorted(data))
        return
    # Each kind's checks are loaded when a file needs them.
    module = import_module(f"tests.qwen3_tts.parity_{kind}")
    yield from module.check(data, folders) if getattr(module, "TAKES_FOLDERS", False) else module.check(data)


if __name__ == "__main__":
    sys.exit(main())
