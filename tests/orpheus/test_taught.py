"""What Orpheus is taught is what it generates, with its own rows: frames of seven, and an end after the end."""

from __future__ import annotations

from tests.orpheus.test_data import write_set
from tts_train.checking import check_training
from tts_train_orpheus.stage import OrpheusData, OrpheusModule


def test_what_is_drawn_is_what_is_taught(tmp_path):
    write_set(tmp_path / "set", [3 + n % 8 for n in range(12)])
    check_training("lm", OrpheusModule("tiny"), OrpheusData(str(tmp_path / "set"), max_tokens=256), runs_in=tmp_path)
