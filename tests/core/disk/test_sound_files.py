"""Sound files on disks that refuse them."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from tts_train.disk.sound_files import write_sound
from tts_train.errors import DiskError

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="the system has no device that is always full")
def test_a_full_disk_is_told_as_such(tmp_path):
    (tmp_path / "a.wav").symlink_to(FULL)
    with pytest.raises(DiskError, match=r"a\.wav cannot be written: No space left on device\.$"):
        write_sound(tmp_path / "a.wav", torch.zeros(24_000), sample_rate=24_000)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".mp3", ".ogg", ".opus"])
def test_every_format_is_written_and_read_back(tmp_path, ending):
    file = tmp_path / "new" / f"a{ending}"
    write_sound(file, torch.zeros(24_000), sample_rate=24_000)
    assert soundfile.info(file).duration == pytest.approx(1, abs=0.1)
