"""A signal that comes while a fit is still getting ready ends it as documented, and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

STOPPED = """
import os, signal, sys
from tts_train.cli import main
import tts_train.training.run

def building(*_, **__):
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    except Exception:
        pass  # as the imports of libraries do

tts_train.training.run.TrainingParser.instantiate_classes = building
sys.exit(main(["fit", "--backend", "toy", "--run_dir", sys.argv[2]]))
"""


def test_a_signal_before_training_is_an_interruption(tmp_path):
    words = [sys.executable, "-c", STOPPED, "SIGTERM", str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 75, done.stderr
    assert done.stderr.splitlines()[-1].startswith("tts-train: Stopped by SIGTERM")
    assert list(tmp_path.iterdir()) == []


def test_a_command_in_a_program_gives_the_handlers_back(capsys):
    from tts_train.cli import main

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert main(["fit", "--backend", "nobody"]) == 2
    assert {number: signal.getsignal(number) for number in before} == before
