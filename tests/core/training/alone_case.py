"""A user's program that trains in two processes, of which one fails; run by test_processes.py as a script."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from tts_train_toy.module import ToyModule

from tts_train import Training

rank, pid = os.environ.get("LOCAL_RANK", "0"), Path(sys.argv[2])
trained = ToyModule.training_step


def step(self, batch, batch_idx):
    if self.global_step == 1 and rank == "1":
        pid.write_text(str(os.getpid()))
    if self.global_step == 2 and rank == sys.argv[1]:
        raise ValueError("alone")
    return trained(self, batch, batch_idx)


def other() -> str:
    try:
        os.kill(int(pid.read_text()), 0)
    except ProcessLookupError:
        return "gone"
    return "there"


if __name__ == "__main__":
    ToyModule.training_step = step
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_steps": 4, "enable_progress_bar": False}
    try:
        Training(backend="toy", trainer=trainer, data={"batch_size": 1}, run_dir=sys.argv[3]).fit()
    except Exception as error:  # noqa: BLE001 - a program that goes on after any error
        print(f"{rank} goes on after {error}; the other is {other()}", flush=True)
        if rank != "0":
            threading.Event().wait()  # as a long program would, with its connections open
