"""How a process ends that was one of several."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit, sys, threading, time
import torch.distributed
from tts_train.parallel.processes import leave

class Finalized:
    def __del__(self):
        print("finalized")

kept = Finalized()
atexit.register(print, "exit handlers")
if sys.argv[1] == "joined":
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    # What a training process leaves behind: Lightning destroys the groups in an exit handler, too.
    atexit.register(torch.distributed.destroy_process_group)
def save():
    time.sleep(0.5)
    print("saved", end="|")

threading.Thread(target=save).start()
print("said", end="|")
if sys.argv[2] == "closed":
    sys.stdout.close()
leave(6)
"""


def test_a_process_of_several_skips_finalization_and_nothing_else():
    ends = {how: _run(how) for how in ("joined", "alone")}
    said = "said|saved|exit handlers\n"
    assert ends == {"joined": (6, said), "alone": (6, f"{said}finalized\n")}


def test_output_that_nobody_takes_changes_no_exit_code():
    assert _run("joined", "closed")[0] == 6


def _run(how: str, output: str = "open") -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how, output], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout
