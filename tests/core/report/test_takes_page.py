"""The page of a set of takes plays the better one beside the worse one, with what was measured of each."""

from __future__ import annotations

import soundfile as sf

from tests.core.datasets.takes import take, write_takes
from tests.core.report.example import clip
from tests.core.report.test_page import Page
from tts_train.report.takes_page import write_takes_page

FIGURES = {"words_found": {"unit": "%", "better": "higher", "summary": "words"}}


def test_each_pair_is_heard_side_by_side_with_its_figures(tmp_path):
    for number in (0, 1):
        samples, rate = clip(number + 1)
        file = tmp_path / "audio" / "a" / f"{number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        sf.write(file, samples, rate)
    rows = [
        take("a", 0, 1.0, text="Fish & <chips>.", words_found=100.0, sound="audio/a/0.wav"),
        take("a", 1, -1.0, text="Fish & <chips>.", words_found=40.0, sound="audio/a/1.wav", ended=False),
        take("b", 0, 0.5, words_found=90.0),
        take("b", 1, -9.0, words_found=None, error="No whole frame was drawn.", missed=["words_found"]),
        take("c", 0, None, words_found=None),
    ]
    write_takes(tmp_path, rows, figures=FIGURES, source="runs/my-voice")
    html = write_takes_page(tmp_path, onward=["tts-train fit --data.path x"]).read_text(encoding="utf-8")
    page = Page(html)
    assert [each["aria-label"] for each in page.all("audio")] == ["Better: Fish & <chips>.", "Worse: Fish & <chips>."]
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    for told in (
        "Fish & <chips>.",
        "reward 1 · words found 100",
        "cut off",
        "No whole frame was drawn.",
        "misses the floor of words_found",
        "1 text: fewer than two takes could be judged.",
        "tts-train fit --data.path x",
    ):
        assert told in page.text
    # All takes, the better ones, the worse ones.
    assert "words_found (%)76.679540" in page.text
