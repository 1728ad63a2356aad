"""Commands of a test, run as one process of two."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.core.pair import note
from tts_train.cli import main
from tts_train.parallel.processes import leave

if __name__ == "__main__":
    results = []
    for word in sys.argv[2:]:
        results.append(main(json.loads(word)))
        note(Path(sys.argv[1]), results)
    leave(0)
