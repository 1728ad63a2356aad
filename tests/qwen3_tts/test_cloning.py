"""Speaking with a released folder: by a recording, by a name, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.qwen3_tts.released import write_released
from tts_train.cli import main


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_released(tmp_path_factory.mktemp("base"), kind="base", shape="r17")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    return write_released(tmp_path_factory.mktemp("named"), kind="custom_voice", shape="r06")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    file = tmp_path_factory.mktemp("recording") / "voice.wav"
    times = np.arange(36_000) / 24_000
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 180 * times) * (1 + np.sin(2 * np.pi * 3 * times)) / 2, 24_000)
    return file


def spoken(folder: Path, out: Path, *options: str) -> tuple[int, bytes]:
    words = ["--backend", "qwen3_tts", "--text", "Hello.", "--out", str(out), "--max_new_tokens", "128", *options]
    code = main(["synth", str(folder), *words])
    return code, out.read_bytes() if out.is_file() else b""


def test_a_base_speaks_in_the_voice_of_a_recording(base, recording, tmp_path):
    told = ["--reference", str(recording)]
    code, by_voice = spoken(base, tmp_path / "voice.wav", *told)
    assert code == 0
    code, going_on = spoken(base, tmp_path / "on.wav", *told, "--reference_text", "Good morning.")
    assert code == 0
    assert by_voice != going_on
    assert soundfile.info(tmp_path / "on.wav").frames == 8 * 1920  # the recording is not said again


def test_a_base_without_a_recording_says_what_to_give(base, tmp_path, capfd):
    code, sound = spoken(base, tmp_path / "none.wav")
    assert code == 2
    assert not sound
    assert "--reference FILE" in capfd.readouterr().err


def test_a_speaker_is_found_whatever_the_case_of_the_name(named, tmp_path, capfd):
    code, lower = spoken(named, tmp_path / "lower.wav", "--speaker", "ryan")
    assert code == 0
    code, upper = spoken(named, tmp_path / "upper.wav", "--speaker", "RYAN")
    assert code == 0
    assert lower == upper
    code, other = spoken(named, tmp_path / "other.wav", "--speaker", "dylan")
    assert code == 0
    assert lower != other
    assert spoken(named, tmp_path / "nobody.wav", "--speaker", "nobody")[0] == 2
    assert "ryan" in capfd.readouterr().err


def test_language_and_instruction_are_heard(named, tmp_path, caplog):
    ways = [(), ("--language", "german"), ("--language", "de"), ("--instruct", "Whisper.")]
    plain, german, de, whispered = (
        spoken(named, tmp_path / f"{number}.wav", "--speaker", "ryan", *way)[1] for number, way in enumerate(ways)
    )
    assert german == de
    assert "without instructions" in caplog.text
    assert len({plain, german, whispered}) == 3


def test_only_a_base_clones(named, recording, tmp_path, capfd):
    code, sound = spoken(named, tmp_path / "clone.wav", "--reference", str(recording))
    assert code == 2
    assert not sound
    assert "no speaker encoder" in capfd.readouterr().err


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0.20 s"), (120, "120.0 s, not at most 60 s")])
def test_a_reference_is_neither_too_short_nor_too_long(base, tmp_path, capfd, seconds, said):
    file = tmp_path / "reference.wav"
    soundfile.write(file, 0.1 * np.sin(np.arange(int(seconds * 24_000)) / 20), 24_000)
    code, sound = spoken(base, tmp_path / "out.wav", "--reference", str(file))
    assert code == 2
    assert not sound
    assert said in capfd.readouterr().err
