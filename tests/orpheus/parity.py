"""Recompute every figure of reference files with our own code: ``python -m tests.orpheus.parity FILE.json…``"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tests import parity
from tests.figures import Figure


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a figure and return 0 if all are within tolerance, else 1."""
    return parity.run(check, argv, prog="python -m tests.orpheus.parity", description=__doc__)


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
