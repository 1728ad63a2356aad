"""How a process ends that was one of several."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit, sys
import torch.distributed
from tts_train.run.leave import leave

class Finalized:
    def __del__(self):
        print("finalized")

kept = Finalized()
atexit.register(print, "exit handlers")
if sys.argv[1] == "joined":
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    # What a training process leaves behind: Lightning destroys the groups in an exit handler, too.
    atexit.register(torch.distributed.destroy_process_group)
print("said", end="|")
leave(6)
"""


def test_a_process_of_several_skips_finalization_and_nothing_else():
    ends = {how: _run(how) for how in ("joined", "alone")}
    assert ends == {"joined": (6, "said|exit handlers\n"), "alone": (6, "said|exit handlers\nfinalized\n")}


def _run(how: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout
