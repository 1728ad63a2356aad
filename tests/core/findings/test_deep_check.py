"""``tts-train check --deep``: the account, the findings by row, what is dropped, kept, continued, and the page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from tests.core.findings import corpora
from tests.core.findings.corpora import RATE, some, voice, write_corpus
from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.findings.catalogue import Catalogue

EVIL = 'A quick <script>alert(1)</script> & "brown" otter slid down.'


@pytest.fixture
def light(monkeypatch):
    """Without optional packages, whose networks take most of the time: as where nothing but the core is installed."""
    for package in {package for measure in Catalogue.load().measures.values() for package in measure.packages}:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture
def spoilt(tmp_path):
    """Eight clips: one clipped, one noisy, one again by MP3 with a text that must be escaped."""
    clips = some(7)
    clips["sample-02"] = corpora.clipped(clips["sample-02"])
    clips["sample-04"] = corpora.with_noise(clips["sample-04"], 5)
    clips["again"] = corpora.by_mp3(clips["sample-06"])
    return write_corpus(tmp_path / "My voice", clips, {"again": EVIL})


def deep(capsys, corpus, *words, code=0):
    """Run the command with --json and return its report."""
    assert main(["check", str(corpus), "--deep", "--json", *map(str, words)]) == code
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def row(number):
    return f"metadata.csv:{number}"


def test_findings_name_rows_and_drop_none(light, spoilt, tmp_path, capsys):
    report = deep(capsys, spoilt, "--out", tmp_path / "out")
    assert (report["rows"], report["kept"], report["dropped"]) == (8, 8, {})
    assert report["findings"]["clipping"] == [row(2)]
    assert report["findings"]["noisy"] == [row(4)]
    assert sorted(report["findings"]["duplicate_sound"]) == [row(6), row(8)]
    assert {"music", "reverberant", "band_limited", "level", "dc_offset", "channels_differ"} <= report[
        "findings"
    ].keys()
    lines = [json.loads(line) for line in (tmp_path / "out" / "findings.jsonl").read_text().splitlines()]
    assert {(line["kind"], line["origin"]) for line in lines} >= {("clipping", row(2)), ("noisy", row(4))}
    # Nothing is written among the recordings.
    assert sorted(file.name for file in spoilt.iterdir()) == ["metadata.csv", "wavs"]


def test_without_out_the_report_goes_to_a_cache_folder(light, spoilt, tmp_path, capsys, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "caches"))
    report = deep(capsys, spoilt)
    assert Path(report["page"]).parent.parent == tmp_path / "caches" / "tts-train" / "check"
    assert Path(report["page"]).parent.name.startswith("My voice-")
    assert sorted(file.name for file in spoilt.iterdir()) == ["metadata.csv", "wavs"]


def test_what_is_asked_for_is_dropped_by_name(light, spoilt, tmp_path, capsys):
    kept, dropped = tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl"
    words = ("--out", tmp_path / "out", "--drop", "noisy,clipping", "--kept", kept, "--dropped", dropped)
    report = deep(capsys, spoilt, *words, "--max_dropped", "0")
    assert (report["rows"], report["kept"], report["dropped"]) == (8, 6, {"clipping": 1, "noisy": 1})
    gone = [json.loads(line) for line in dropped.read_text().splitlines()]
    assert sorted((each["origin"], each["reason"]) for each in gone) == [(row(2), "clipping"), (row(4), "noisy")]
    again = deep(capsys, kept, "--out", tmp_path / "other")
    assert (again["rows"], again["kept"]) == (6, 6)
    assert not again["findings"]["noisy"]
    assert str(kept) in report["next"][0]


def test_thresholds_move_what_is_told(light, spoilt, tmp_path, capsys):
    report = deep(capsys, spoilt, "--out", tmp_path / "out", "--thresholds", "noisy=2.5, level=0.01")
    assert not report["findings"]["noisy"]
    assert len(report["findings"]["level"]) >= 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--deep", "--drop", "noisi"], ["noisi", "Did you mean noisy", "clipping"]),
        (["--deep", "--thresholds", "hiss=3"], ["hiss", "noisy", "clipping"]),
        (["--deep", "--thresholds", "noisy=much"], ["noisy=much", "--thresholds noisy=15"]),
        (["--deep", "--thresholds", "noisy=nan"], ["noisy=nan"]),
        (["--drop", "noisy"], ["--drop", "Add --deep"]),
        (["--deep", "--kept", "{corpus}/kept.jsonl"], ["--kept", "My voice-kept.jsonl"]),
        (["--deep", "--out", "{corpus}/report"], ["--out", "corpus"]),
    ],
    ids=str,
)
def test_words_that_mean_nothing_are_refused_before_anything_is_read(words, said, light, spoilt, capsys):
    assert main(["check", str(spoilt), *(word.format(corpus=spoilt) for word in words)]) == 2
    error = capsys.readouterr().err
    assert all(each in error for each in said), error
    assert sorted(file.name for file in spoilt.iterdir()) == ["metadata.csv", "wavs"]


def test_rows_that_cannot_be_read_are_dropped_as_without_deep(light, tmp_path, capsys):
    clips = some(6)
    clips["sample-02"] = np.clip(8 * clips["sample-02"], -0.9, 0.9)
    corpus = write_corpus(tmp_path / "voice", clips)
    (corpus / "wavs" / "sample-01.wav").write_bytes(b"")
    words = ["--out", tmp_path / "out", "--max_dropped", "0.1"]
    report = deep(capsys, corpus, *words, code=2)
    assert main(["check", str(corpus), "--json", "--max_dropped", "0.1"]) == 2
    plain = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {name: report[name] for name in plain} == plain
    assert report["rows"] == report["kept"] + sum(report["dropped"].values())
    # Dropped anyway, but who looks for clipping shall see it.
    assert report["dropped"]["clipped"] == 1
    assert report["findings"]["clipping"] == [row(2)]
    assert main(["check", str(corpus), "--deep", *map(str, words)]) == 2
    out = capsys.readouterr().out
    assert "clipping: 1 clip (dropped anyway)" in out
    # Rows that are dropped anyway are none of the clips that are left.
    assert "Nothing is wrong with the 4 clips" in out or "of 4 clips have findings" in out


def test_a_corpus_without_rows_is_an_error(light, tmp_path, capsys):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "metadata.jsonl").write_text("")
    assert main(["check", str(folder), "--deep", "--out", str(tmp_path / "out")]) == 2
    assert main(["check", str(tmp_path / "nowhere"), "--deep", "--out", str(tmp_path / "out")]) == 2


def test_rows_of_token_ids_are_kept_and_said_to_have_no_sound(light, tmp_path, capsys):
    rows = pa.table({"input_ids": [[1, 2, 3], [4, 5, 6]]})
    (tmp_path / "tokens").mkdir()
    pq.write_table(rows, tmp_path / "tokens" / "rows.parquet")
    assert main(["check", str(tmp_path / "tokens"), "--deep", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Not measured: 2 rows hold token ids and no sound" in out
    kept = ["--kept", str(tmp_path / "kept.jsonl"), "--out", str(tmp_path / "out")]
    assert main(["check", str(tmp_path / "tokens"), "--deep", *kept]) == 2
    assert "--kept cannot list 2 rows" in capsys.readouterr().err


def test_sound_inside_of_a_table_is_measured_and_played_but_not_listed(light, spoilt, tmp_path, capsys):
    files = sorted((spoilt / "wavs").iterdir())
    clips = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    texts = [corpora.texts().get(file.stem, EVIL) for file in files]
    (tmp_path / "table").mkdir()
    pq.write_table(pa.table({"audio": clips, "text": texts}), tmp_path / "table" / "rows.parquet")
    report = deep(capsys, tmp_path / "table", "--out", tmp_path / "out")
    assert len(report["findings"]["duplicate_sound"]) == 2
    assert Path(report["page"]).read_text(encoding="utf-8").count("<audio") >= 4
    kept = ["--kept", str(tmp_path / "kept.jsonl"), "--out", str(tmp_path / "out")]
    assert main(["check", str(tmp_path / "table"), "--deep", *kept]) == 2
    assert "tts-train corpus merge" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said_with_what_to_install(light, spoilt, tmp_path, capsys):
    assert main(["check", str(spoilt), "--deep", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Not measured: .*other_speaker.* since resemblyzer is not installed: pip install", out)
    assert re.search(r"Not measured: .*poor_quality.* since speechmos", out)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "resemblyzer is not installed" in page


def test_the_summary_says_what_to_do_first(light, spoilt, tmp_path, capsys):
    assert main(["check", str(spoilt), "--deep", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\d of 8 clips have findings \(\d+ s of \d+ s\)", out)
    assert "1. Start with duplicate_sound: 2 clips" in out
    assert re.search(r"noisy: 1 clip \(2 s\)\. The voice is hardly louder .* Worst: metadata.csv:4 \(\d", out)


def test_the_page_holds_figures_players_and_texts_that_run_nothing(light, spoilt, tmp_path, capsys):
    report = deep(capsys, spoilt, "--out", tmp_path / "out")
    page = Path(report["page"]).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<audio") == page.count("data:audio/mpeg;base64,") >= 4
    assert page.count('alt="Mel spectrogram, metadata.csv') >= 4
    for name in ("clipping", "noisy", "duplicate_sound"):
        assert f"<h3>{name}</h3>" in page
        assert f"<span>{name}</span>" in page
    assert page.count('class="limit"') >= 8
    assert len(page) < 20 * 2**20
    # Colours that nobody defines would leave the histograms blank.
    assert set(re.findall(r"var\((--[\w-]+)\)", page)) - {"--c"} <= set(re.findall(r"(--[\w-]+):", page))
    # Everything is inside: no address and no file beside it.
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def kept_files(out):
    return {file: file.stat().st_mtime_ns for file in sorted((out / "measured").rglob("*.json"))}


def test_nothing_is_measured_twice_and_what_is_lost_is_measured_again(light, spoilt, tmp_path, capsys):
    out = tmp_path / "out"
    first = deep(capsys, spoilt, "--out", out)
    before = kept_files(out)
    assert len(before) == 8
    damaged, removed, *_ = before
    damaged.write_text('{"levels 1')
    removed.unlink()
    assert deep(capsys, spoilt, "--out", out) == first
    after = kept_files(out)
    assert {file for file in before if before[file] == after[file]} == before.keys() - {damaged, removed}
    # What the sound says stays where a text is corrected.
    table = spoilt / "metadata.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("|", "|Well, ", 1), encoding="utf-8")
    deep(capsys, spoilt, "--out", out)
    assert kept_files(out) == after
    # A clip that was edited is another clip.
    sf.write(spoilt / "wavs" / "sample-04.wav", voice()["sample-04"], RATE, subtype="PCM_16")
    assert not deep(capsys, spoilt, "--out", out)["findings"]["noisy"]
    assert len(kept_files(out)) == 9


def test_a_killed_command_is_continued(light, tmp_path, capsys):
    corpus = write_corpus(tmp_path / "voice", some(16))
    out = tmp_path / "out"
    words = [sys.executable, "-m", "tts_train", "check", str(corpus), "--deep", "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    while process.poll() is None and not kept_files(out):
        time.sleep(0.01)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    before = kept_files(out)
    assert before
    assert not (out / "report.html").exists()
    assert deep(capsys, corpus, "--out", out)["kept"] == 16
    text = {file: json.loads(file.read_text()) for file in before}
    assert all("levels 1" in " ".join(figures) for figures in text.values())
    assert len(kept_files(out)) == 16


def test_processes_find_the_same(light, spoilt, tmp_path, capsys):
    here = deep(capsys, spoilt, "--out", tmp_path / "here")
    there = deep(capsys, spoilt, "--out", tmp_path / "there", "--workers", "1")
    assert there["findings"] == here["findings"]


def corpus_folder(path, clips):
    folder = CorpusFolder(path)
    (path / "clips").mkdir(parents=True)
    rows = []
    for name, samples in clips.items():
        sf.write(path / "clips" / f"{name}.wav", samples, RATE, subtype="PCM_16")
        about = {"audio": f"clips/{name}.wav", "seconds": len(samples) / RATE, "text": corpora.texts()[name]}
        rows.append(ClipRow(**about, facts={"pace": 3}))
    folder.write(rows, recordings=[])
    return folder


def test_a_corpus_folder_keeps_names_with_its_rows_and_says_how_to_take_them_out(light, tmp_path, capsys):
    clips = some(6)
    clips["sample-03"] = corpora.with_noise(clips["sample-03"], 5)
    folder = corpus_folder(tmp_path / "corpus", clips)
    report = deep(capsys, folder.path, "--drop", "noisy")
    assert report["findings"]["noisy"] == ["corpus.jsonl:3"]
    assert (report["kept"], report["dropped"]) == (5, {"noisy": 1})
    rows = folder.rows()
    assert "noisy" in rows[2].facts["findings"]
    assert [{**each.facts, "findings": 0} for each in rows if "noisy" in each.facts.get("findings", ())] == [
        {"pace": 3, "findings": 0}
    ]
    assert (folder.path / "report" / "report.html").is_file()
    assert report["next"][0].startswith("tts-train corpus apply")
    assert (folder.path / "report" / "drop.csv").read_text() == "clip,action\nclips/sample-03.wav,drop\n"
    # What was found before and is no more is taken away.
    deep(capsys, folder.path, "--thresholds", "noisy=1")
    assert all("noisy" not in each.facts.get("findings", ()) and each.facts["pace"] == 3 for each in folder.rows())


def test_rows_that_cannot_be_written_back_are_told_before_a_clip_is_heard(light, tmp_path, capsys):
    folder = corpus_folder(tmp_path / "corpus", some(2))
    table = folder.path / "corpus.jsonl"
    table.write_text(table.read_text(encoding="utf-8") * 2, encoding="utf-8")
    assert main(["check", str(folder.path), "--deep"]) == 2
    assert "has 2 rows for clips/sample-01.wav" in capsys.readouterr().err
    assert not (folder.path / ".work").exists()


def test_the_table_of_dropped_rows_takes_them_out(light, tmp_path, capsys):
    clips = some(6)
    clips["sample-03"] = corpora.with_noise(clips["sample-03"], 5)
    folder = corpus_folder(tmp_path / "corpus", clips)
    deep(capsys, folder.path, "--drop", "noisy")
    assert main(["corpus", "apply", str(folder.path), "--table", str(folder.path / "report" / "drop.csv")]) == 0
    assert [each.audio for each in folder.rows("removed.jsonl")] == ["clips/sample-03.wav"]
    assert len(folder.rows()) == 5


def test_limits_of_a_backend_hold_with_deep(light, spoilt, tmp_path, capsys):
    report = deep(capsys, spoilt, "--out", tmp_path / "out", "--backend", "orpheus", "--max_dropped", "1")
    assert report["rows"] == report["kept"] + sum(report["dropped"].values())
    assert "findings" in report


def test_help_names_the_options_and_loads_no_torch(capsys):
    words = [sys.executable, "-c", "import sys; from tts_train.cli import main; main(['check', '--help']); "
             "assert 'torch' not in sys.modules"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {"--deep", "--drop", "--thresholds", "--kept", "--out"} <= set(re.findall(r"--\w+", done.stdout))
