"""``python -m tts_train`` and ``tts-train``."""

from __future__ import annotations

from typing import NoReturn

from tts_train.cli import main
from tts_train.parallel.processes import leave


def run() -> NoReturn:
    """Run the command that the words name and end the process with its exit code."""
    leave(main())


if __name__ == "__main__":
    run()
