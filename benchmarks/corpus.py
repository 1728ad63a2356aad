"""How well ``tts-train corpus`` and ``check --deep`` do on human speech, part by part.

    python benchmarks/corpus.py slicing DIR --name 2026-01-31-corpus-slicing
    python benchmarks/corpus.py PART --help

Recordings are not in the repository. Debian's prompts of Asterisk are such (asterisk-core-sounds-en-g722, es, fr, it,
ru), unpacked with ``dpkg-deb -x PACKAGE DIR``; .g722 needs ``pip install 'tts-train[av]'``.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the part that is named, with the words behind it."""
    parts = {file.stem.removeprefix("corpus_"): file for file in sorted(HERE.glob("corpus_*.py"))}
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in parts:
        raise SystemExit(f"{__doc__}\nParts: {', '.join(parts)}")
    # As if the file itself had been started, so that the command which it records can be repeated.
    # The fetching of real voices is shared with the tests.
    sys.path.append(str(HERE.parent))
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    sys.argv = [f"benchmarks/{parts[name].name}", *sys.argv[2:]]
    runpy.run_path(str(parts[name]), run_name="__main__")


if __name__ == "__main__":
    main()
