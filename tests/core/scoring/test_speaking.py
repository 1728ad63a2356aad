"""Any stage that speaks can be compared: with jobs that know nothing of many lines, codecs or failures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.core.scoring.sounds import clip
from tts_train.contract.jobs import Line, SynthJob
from tts_train.contract.reports import SynthReport
from tts_train.errors import ConfigError, DataError
from tts_train.scoring.evaluation import evaluate
from tts_train.scoring.metrics.wave import Clipping, Duration
from tts_train.scoring.sentences import Sentence
from tts_train.scoring.speaking import folder_name, say_all


@dataclass(kw_only=True)
class Hum(SynthJob):
    """Hums for as long as the text is, and says nothing to a text in capitals."""

    pitch: float = 200.0

    def run(self):
        if self.text.isupper():
            raise DataError(f"Nothing was spoken: {self.text}")
        time = np.arange(1600 * len(self.text)) / 16_000
        self.out.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(self.out, 0.3 * np.sin(2 * np.pi * self.pitch * time + self.seed), 16_000)
        return SynthReport(path=str(self.out))


def sentence(number: int, text: str, language: str = "en") -> Sentence:
    return Sentence(
        name=f"s{number:02d}", id=f"{number:016x}", text=text, speaker=None, language=language, learned=None,
        recording=clip(number),
    )  # fmt: skip


def job(**options) -> Hum:
    return Hum(source=Path("hum"), text="-", out=Path("-"), **options)


def test_a_job_speaks_many_lines_one_by_one(tmp_path):
    lines = [Line(text=text, out=tmp_path / f"{text}.wav", seed=seed) for seed, text in enumerate(["a", "B", "cc"])]
    reports = list(job().speak_all(lines))
    assert ["error" in report for report in reports] == [False, True, False]
    assert [soundfile.info(tmp_path / f"{text}.wav").frames for text in ("a", "cc")] == [1600, 3200]
    assert not (tmp_path / "B.wav").exists()
    assert job().round_trip([]) is False


def test_a_sentence_without_sound_is_counted_and_bears_on_no_figure(tmp_path):
    sentences = [sentence(1, "well"), sentence(2, "NOT"), sentence(3, "so", "fr")]
    jobs = {"low": job(), "high": job(pitch=400)}
    report = evaluate(
        jobs, sentences, [Duration(), Clipping()], out=tmp_path, seed=5, missing={"recognition": "no model"}
    )
    assert report["failed"] == {"low": 1, "high": 1}
    assert list(report["scores"]) == ["recording", "low", "high"], "no codec, no ceiling"
    assert report["scores"]["low"]["all"]["clipped"]["n"] == 2
    assert report["scores"]["low"]["fr"]["clipped"] == {"n": 1, "mean": 0.0, "low": None, "high": None}
    assert report["differences"]["high"]["duration_ratio"]["mean"] == pytest.approx(0, abs=0.02)
    assert report["held_out"] == {"unknown": 3}
    page = (tmp_path / "scores.md").read_text(encoding="utf-8")
    assert "low: 1 sentences gave no sound." in page
    assert "Not measured: recognition (no model)." in page
    assert sorted(path.name for path in (tmp_path / "audio" / "low").iterdir()) == ["s01.wav", "s03.wav"]


@dataclass(kw_only=True)
class Mute(Hum):
    """Has no codec, or loses it after the first sentence."""

    says: int = 0

    def speak_all(self, lines):
        for number, line in enumerate(lines):
            if number == self.says:
                raise ConfigError("The codec x is not on this machine.")
            yield self.of(line).run()


def test_a_source_that_cannot_speak_costs_the_others_nothing(tmp_path, caplog):
    sentences = [sentence(1, "well"), sentence(2, "so")]
    about = {"source": Path("mute"), "text": "-", "out": Path("-")}
    jobs = {"mute": Mute(**about), "hum": job(), "half": Mute(**about, says=1), "capitals": Shouting(**about)}
    report = evaluate(jobs, sentences, [Duration(), Clipping()], out=tmp_path, seed=5, missing={})
    assert report["silent"] == {
        "mute": "The codec x is not on this machine.",
        "capitals": "Nothing was spoken: WELL",
    }
    assert report["failed"] == {"mute": 2, "half": 1, "capitals": 2}
    assert report["scores"]["hum"]["all"]["clipped"]["n"] == 2
    assert report["scores"]["half"]["all"]["clipped"]["n"] == 1
    assert report["scores"]["mute"]["all"] == {}
    page = (tmp_path / "scores.md").read_text(encoding="utf-8")
    assert "mute: nothing was said. The codec x is not on this machine." in page
    assert "half: 1 sentences gave no sound." in page
    assert "mute said none of 2 sentences" in caplog.text


@dataclass(kw_only=True)
class Shouting(Hum):
    """Says nothing at all."""

    def run(self):
        raise DataError(f"Nothing was spoken: {self.text.upper()}")


def test_where_no_source_says_anything_nothing_is_written(tmp_path):
    about = {"source": Path("mute"), "text": "-", "out": Path("-")}
    with pytest.raises(DataError, match="No source said any of 1 sentences") as caught:
        say_all({"a": Mute(**about), "b": Shouting(**about)}, [sentence(1, "no")], out=tmp_path, seed=0)
    assert "mute: The codec x is not on this machine." in str(caught.value)
    assert "mute: Nothing was spoken: NO" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folders_have_plain_names():
    assert folder_name("unsloth/orpheus-3b-0.1-ft") == "unsloth-orpheus-3b-0.1-ft"
    assert folder_name("../..") == "source"
