"""Open every file of a folder under an audit hook and report what happened; run as a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from pathlib import Path

WATCHED = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "subprocess.",
    "socket.",
    "pty.",
    "ctypes.",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main(folder: Path) -> None:
    """Print, as JSON, verdict, processor seconds and events of each file; then the events of running a payload."""
    import torch  # noqa: F401  # its import opens libraries, so it comes before the watch

    from tests.core.weights.hostile import payload
    from tests.peak import peak_kibibytes
    from tts_train.errors import TTSTrainError
    from tts_train.weights import read_safetensors, read_torch

    events: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        evil = event == "import" and str(arguments[0]).startswith("evil")
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if watching and (evil or writes or event.startswith(WATCHED)):
            events.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)
    before = peak_kibibytes()
    rows = []
    for path in sorted(folder.iterdir()):
        head = b"PK" if path.name.startswith("header-0") else b""
        start = time.process_time()
        try:
            if path.suffix == ".safetensors":
                read_safetensors(path)
            else:
                read_torch(path, head=head, dict_classes=["evilmod.Config"] if "class-path" in path.name else [])
            verdict, code = "read", 0
        except TTSTrainError as error:
            verdict, code = str(error), error.exit_code
        rows.append({"file": path.name, "code": code, "verdict": verdict, "seconds": time.process_time() - start})
    report = {"files": rows, "events": list(events), "mebibytes": (peak_kibibytes() - before) / 1024}
    events.clear()
    pickle.loads(payload("true"))  # noqa: S301  # ours, and what the watch must see
    watching = False
    print(json.dumps({**report, "control": events}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
