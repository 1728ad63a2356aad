"""The report shows what the run holds, alone, well formed and escaped."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from PIL import Image

from tests.core.report.example import STEPS, TEXTS, clip, make_run
from tts_train.errors import ConfigError
from tts_train.report import History, write_report, write_sample
from tts_train.report.chart import ChartLine, line_chart, nice_ticks, number

VOID = {"meta", "img", "path", "rect", "br", "link", "input"}


class Page(HTMLParser):
    """Collect elements and text; fail on tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(run) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_it_loads_nothing_and_runs_no_script(html, page):
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    for _, attrs in page.elements:
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("src", "data:").startswith("data:")
    assert "default-src 'none'" in html


def test_it_lies_in_the_run_and_replaces_an_earlier_one_whole(run, tmp_path):
    assert write_report(run) == run / "report.html"
    assert not list(run.glob("*.part"))
    assert write_report(run, tmp_path / "deep" / "page.html").exists()


def test_headline_figures_come_from_the_run(page):
    for words in ("sample-voice", "example lm", "finished", "400", "of 400", "Validation loss", "17.2", "1.6"):
        assert words in page.text


def test_every_kind_of_metric_has_its_chart(page):
    described = [attrs["aria-label"] for attrs in page.all("svg")]
    titles = [label.split(":")[0] for label in described]
    assert titles == [
        "Samples with a fault",
        "Dnsmos",
        "Loss",
        "Loss, training",
        "Loss, validation",
        "Loss by language, validation",
        "Share of each codebook in use, validation",
        "Accuracy by slot of a frame, validation",
        "Tokens a second",
        "Seconds of speech a second",
        "Steps a second",
        "Time spent waiting for data",
        "Time spent listening",
        "Peak memory",
        "Learning rate",
    ]
    loss = described[titles.index("Loss")]
    assert "training from" in loss
    assert "validation from" in loss
    accuracy = described[titles.index("Accuracy by slot of a frame, validation")]
    assert all(f"slot {slot} from" in accuracy for slot in range(7))
    languages = described[titles.index("Loss by language, validation")]
    assert "de from" in languages
    assert "audio from" not in languages


def test_each_take_has_a_picture_and_a_sound_that_decode(page):
    pictures, sounds = page.all("img"), page.all("audio")
    # Two utterances of one recording, its way through the codec and four steps each, and the newest at the head.
    assert len(pictures) == len(sounds) == 2 * (len(STEPS) + 2) + 1
    labels = [sound["aria-label"].split(":")[0] for sound in sounds[1:7]]
    assert labels == ["Recording", "Codec alone", "Step 100", "Step 200", "Step 300", "Step 400"]
    assert all(picture["alt"].startswith("Mel spectrogram") for picture in pictures)
    for picture in pictures:
        assert Image.open(io.BytesIO(decode(picture["src"]))).height == 192
    recording = next(sound for sound in sounds if sound["aria-label"] == f"Recording: {TEXTS[1]}")
    samples, rate = sf.read(io.BytesIO(decode(recording["src"])))
    np.testing.assert_allclose(samples, clip(2)[0], atol=1.1 / 32767)
    assert rate == 24_000


def test_data_and_commands_are_told(page, run):
    for words in (
        "36 of 40",
        "Dropped: too long",
        "heart (36)",
        "1.6 minutes",
        "Rows by tokens",
        "step-000400",
        "2.0 MB",
    ):
        assert words in page.text
    bars = [attrs["title"] for attrs in page.all("div") if attrs.get("class") == "column"]
    assert sum(int(bar.split(": ")[1]) for bar in bars) == 36
    assert "metadata.csv:1: 61 s" in page.text


def test_commands_can_be_copied(page, run):
    for words in (
        f"tts-train export {run} --format hf --out voice-hf/",
        f"tts-train export {run} --format gguf --out voice-gguf/",
        'tts-train synth voice-hf/ --text "Hello there." --out hello.wav',
        f"tts-train fit -c {run}/config.yaml",
        f"tts-train eval {run} --data RECORDINGS --out scores/",
        f"tensorboard --logdir {run}/logs",
    ):
        assert words in page.text


def test_without_formats_the_way_to_them_is_told(tmp_path):
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert f"tts-train export {tmp_path} --format FORMAT" in text
    assert "tts-train formats" in text


def test_a_stage_that_does_not_speak_is_not_told_to(tmp_path):
    (tmp_path / "run.json").write_text('{"speaks": false, "formats": {"s2": "a file"}}')
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "tts-train synth" not in text
    assert "--format s2" in text


def test_the_plan_stands_beside_what_was_measured(page, tmp_path):
    cells = re.sub(r"\s+", " ", page.text)
    # 100 batches at 3.1 steps a second are half a minute.
    for words in (
        "16.40 GiB17.20 GiB",
        "17.60 GiBthe card has 24.0 GiB",
        "36 s to 1.8 min, by card32 s",
        "65.",
        "TFLOP",
    ):
        assert words in cells
    (tmp_path / "run.json").write_text('{"plan": {"peak_bytes": 1073741824}}')
    assert "1.00 GiBnot logged" in Page(write_report(tmp_path).read_text(encoding="utf-8")).text


def test_faults_of_a_sample_are_named(html):
    assert html.count('<em class="bad">repetition</em>') == 2


def test_an_empty_run_says_what_is_missing(tmp_path):
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    for words in ("No figures were logged", "No samples were made", "No loss was logged", "No whole checkpoint"):
        assert words in page.text


def test_broken_parts_become_notes(tmp_path):
    (tmp_path / "run.json").write_text('{"backend": ')
    (tmp_path / "config.yaml").write_text("data: {path: /nowhere/at/all}\n")
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "run.json could not be read" in text
    assert "/nowhere/at/all cannot be reached" in text


def test_words_of_users_stay_words(tmp_path):
    evil = '<script>alert("x")</script> & $title \' <img src=x onerror=y>'
    folder = tmp_path / "run <b>$x"
    write_sample(folder / "samples" / "step-000001", "a", clip(1)[0], 24_000, text=evil, facts={"speaker": evil})
    History(folder).append({f"val/{evil}": 1.0, f"val/loss/{evil}": 2.0}, step=1, epoch=0)
    (folder / "run.json").write_text('{"backend": "<i>b</i>", "exit_reason": "<u>"}')
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.all("script") == []
    assert evil in page.text
    assert "<i>b</i>" in page.text
    assert all("src" not in attrs or attrs["src"].startswith("data:") for attrs in page.all("img"))


def test_many_checkpoints_are_thinned_and_said_so(tmp_path):
    wave = clip(17)[0]
    for step in range(10, 130, 10):
        write_sample(tmp_path / "samples" / f"step-{step:06d}", "a", wave, 24_000, text="How far?")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("audio")) == 6 + 1
    assert "6 more in samples/" in page.text
    labels = [sound["aria-label"] for sound in page.all("audio")]
    assert labels[1].startswith("Step 10:")
    assert labels[-1].startswith("Step 120:")


def test_an_unfinished_run_says_so_and_the_host_is_not_told(tmp_path):
    (tmp_path / "run.json").write_text('{"backend": "example", "exit_reason": null, "host": "secret-box", "pid": 1}')
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "not finished" in page.text
    assert "secret-box" not in page.text


def test_a_run_must_be_a_directory(tmp_path):
    with pytest.raises(ConfigError, match="not a directory"):
        write_report(tmp_path / "nothing")


def test_values_that_are_not_finite_are_counted_in_the_legend():
    chart = line_chart("Loss", [ChartLine("training", [(1, 2.0), (2, float("nan")), (3, 1.0)])], last_step=3)
    assert "1 not finite" in Page(chart).text
    assert "nan" not in chart.lower().replace("not finite", "")
    assert "No finite value" in line_chart("Loss", [ChartLine("a", [(1, float("inf"))])], last_step=1)


@pytest.mark.parametrize(("low", "high"), [(0, 9.3), (2.1, 2.2), (-1, 1), (5, 5), (0, 0), (0, 3e-7), (1e6, 4e6)])
def test_ticks_are_round_and_enclose(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert 2 <= len(ticks) <= 7


def test_numbers_read_well():
    assert [number(x) for x in (0, 2.34567, 8028.2, 2e-4, 9.52e-6, 0.5)] == [
        "0", "2.346", "8\u202f028", "2e-4", "9.52e-6", "0.5",
    ]  # fmt: skip


def decode(source: str) -> bytes:
    return base64.b64decode(source.split("base64,")[1])
