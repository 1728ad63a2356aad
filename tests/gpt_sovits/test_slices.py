"""Long recordings: cut at silences, every piece written, a list to fill in, nothing overwritten."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tts_train.demo.journey import VOICE
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.preparing.prepare import GptSovitsPrepare
from tts_train_gpt_sovits.preparing.slices import LIST


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    (folder / "second").mkdir(parents=True)
    clips = [soundfile.read(VOICE / "wavs" / f"sample-{number:02d}.flac", dtype="float32") for number in range(1, 7)]
    rate = clips[0][1]
    pause = np.zeros(rate, dtype=np.float32)
    joined = np.concatenate([part for sound, _ in clips for part in (sound, pause)])
    soundfile.write(folder / "session.wav", joined, rate)
    soundfile.write(folder / "second" / "session.flac", joined[: 9 * rate], rate)
    (folder / "notes.txt").write_text("not audio")
    return folder


def sliced(corpus, out, **options):
    return GptSovitsPrepare(corpus=corpus, out=out, slices=True, **options).run()


def test_recordings_become_pieces_and_a_list(recordings, tmp_path):
    out = tmp_path / "slices"
    told = sliced(recordings, out, language="en")
    rows = [line.split("|") for line in (out / LIST).read_text(encoding="utf-8").splitlines()]
    assert told["recordings"] == 2
    assert told["slices"] == len(rows) == len(list(out.glob("*.wav")))
    assert told["slices"] >= 4, "cuts are at least four seconds apart"
    assert len({name for name, *_ in rows}) == len(rows), "two recordings of one name both live"
    for name, speaker, language, text in rows:
        sound, rate = soundfile.read(out / name)
        assert (rate, speaker, language, text) == (32_000, "recordings", "en", "")
        assert 1 < len(sound) / rate < 15
        assert np.abs(sound).max() <= 0.95


def test_nothing_is_overwritten_and_nothing_is_made_of_nothing(recordings, tmp_path):
    with pytest.raises(ConfigError, match="read again"):
        sliced(recordings, recordings)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(ConfigError, match="not empty"):
        sliced(recordings, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recordings"):
        sliced(tmp_path / "empty", tmp_path / "out")
