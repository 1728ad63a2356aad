"""A recogniser's text is held against the row's, where one was named."""

from __future__ import annotations

import json

import pytest
import soundfile

from tests.core.findings.text.rows import Said, measured, sample_rows, sound_of
from tts_train.cli import main
from tts_train.findings.measure import Measured, NotMeasured
from tts_train.findings.text.recognised import RecognisedJudge, RecognisedText
from tts_train.scoring.recognisers.sphinx import SphinxRecogniser

LIMITS = {kind.name: kind.threshold for kind in RecognisedJudge.kinds}


def test_another_text_than_the_recogniser_hears_is_told():
    rows = [Said(sound_of(place), sample_rows(3)[place].text) for place in range(2)]
    rows[1] = Said(rows[1].sound, "Perhaps the committee postponed its examination")
    found = list(RecognisedJudge().judge(measured(rows, [RecognisedText(SphinxRecogniser(None))]), LIMITS))
    assert [(each.kind, each.origin) for each in found] == [("heard_otherwise", "x.list:2")]
    with pytest.raises(NotMeasured, match="not fr"):
        measured([Said(rows[0].sound, "Bonjour", "fr")], [RecognisedText(SphinxRecogniser(None))])


def test_a_row_spoken_in_another_language_than_most_is_told():
    rows = [
        Measured(
            origin=f"x:{number}",
            text="",
            speaker=None,
            language=None,
            seconds=1.0,
            figures={"heard_language": language, "heard_sure": sure},
        )
        for number, (language, sure) in enumerate([("en", 0.9), ("en", 0.9), ("de", 0.9), ("nl", 0.4)])
    ]
    assert [each.origin for each in RecognisedJudge().judge(rows, LIMITS)] == ["x:2"]


def test_without_one_the_report_says_how_to_name_it():
    assert "add --recogniser whisper" in (RecognisedText().missing() or "")
    assert RecognisedText(SphinxRecogniser(None)).missing() is None


def test_the_weights_are_read_once_and_not_for_each_clip():
    class Counted(SphinxRecogniser):
        asked = 0

        def settings(self):
            Counted.asked += 1
            return super().settings()

    measure = RecognisedText(Counted(None))
    assert measure.settings() == measure.settings() == {"name": "sphinx", **SphinxRecogniser(None).settings()}
    assert Counted.asked == 1


def test_the_command_takes_the_name_of_a_recogniser(tmp_path, capsys):
    sound = sound_of(0)
    soundfile.write(tmp_path / "a.wav", sound.samples, sound.sample_rate)
    (tmp_path / "x.list").write_text("a.wav|ann|en|Perhaps the committee postponed its examination", encoding="utf-8")
    words = ["check", str(tmp_path), "--deep", "--out", str(tmp_path.parent / f"{tmp_path.name}-out"), "--json"]
    assert main([*words, "--recogniser", "sphinks"]) == 2
    assert "there is no such recogniser" in capsys.readouterr().err
    assert main([*words, "--recogniser", "sphinx"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["findings"]["heard_otherwise"] == report["findings"]["text_mismatch"] == ["x.list:1"]
    assert "heard_otherwise" not in report["not_measured"]
