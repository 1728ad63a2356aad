"""A signal that comes while a fit is still getting ready ends it as documented, and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

from tts_train.cli import COMMANDS, main

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


def test_ctrl_c_in_an_import_that_makes_another_error_of_it_is_an_interruption(capsys, monkeypatch, tmp_path):
    # As numpy does: whatever stops the import of its core becomes an ImportError.
    (tmp_path / "torn_import.py").write_text(
        "try:\n    raise KeyboardInterrupt\nexcept BaseException as error:\n    raise ImportError('torn') from error\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "torn", ("torn_import", "A command whose import is stopped."))
    assert main(["torn"]) == 75
    assert "Traceback" not in capsys.readouterr().err
