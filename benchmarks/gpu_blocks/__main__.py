"""Run one block in this process: ``python -m gpu_blocks JSON``; ``gpu.py`` starts it."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path

import tts_train  # noqa: F401 - first: it sets what torch reads when it is imported
from gpu_blocks.job import Job
from gpu_blocks.record import WHOLE
from tts_train.cli.importing import first_imports


def main() -> int:
    """Run the block that the one argument describes; 1 if it raised."""
    told = json.loads(sys.argv[1])
    paths = {name: Path(told.pop(name)) for name in ("out", "work", "carried")}
    job = Job(**told, **paths)
    warnings.filterwarnings("ignore")
    with first_imports():
        block = importlib.import_module(f"gpu_blocks.{job.block}")
    with job.record.part(WHOLE):
        block.run(job)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
