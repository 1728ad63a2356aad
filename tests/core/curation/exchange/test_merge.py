"""``corpus merge``: any layout into one folder, each sound once, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.core.corpus.sounds import encoded, voice
from tts_train.cli import main
from tts_train.corpus.layouts.jsonl import encode_array
from tts_train.corpus.read import open_corpus
from tts_train.curation.exchange.assemble import CONFLICT
from tts_train.curation.folder import REMOVED, CorpusFolder, RecordingAccount
from tts_train.curation.review.changes import JOURNAL
from tts_train.curation.row import ClipRow, Cut
from tts_train.demo.journey import VOICE


def merge(capsys, *words) -> dict:
    assert main(["corpus", "merge", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, *words) -> str:
    assert main(["corpus", "merge", *map(str, words)]) == 2
    return capsys.readouterr().err


def wave(path, seed: int, *, seconds: float = 1.0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(voice(seconds, seed=seed), **options))
    return path


def rows_of(out):
    return {row.text or row.audio: row for row in CorpusFolder.open(out).rows()}


def test_layouts_and_recordings_alone_become_one_folder(tmp_path, capsys):
    wave(tmp_path / "lj/wavs/a.wav", 1)
    (tmp_path / "lj/metadata.csv").write_text("a|Said by the first.\n", encoding="utf-8")
    wave(tmp_path / "list/wavs/a.wav", 2)
    (tmp_path / "list/x.list").write_text("wavs/a.wav|Ann|EN|Said by the second.\n", encoding="utf-8")
    wave(tmp_path / "alone/a.wav", 3)
    sound = {"bytes": encoded(voice(1.0, seed=4), format="FLAC"), "path": None}
    pq.write_table(pa.Table.from_pylist([{"audio": sound, "text": "Said in a table."}]), tmp_path / "t.parquet")
    sources = [tmp_path / "lj", tmp_path / "list", tmp_path / "alone", tmp_path / "t.parquet"]
    report = merge(capsys, *sources, "--out", tmp_path / "out")
    assert (report["rows_in"], report["kept"], report["rows"], report["texts_missing"]) == (4, 4, 4, 1)
    assert report["seconds"] == {"kept": 4.0}
    rows = rows_of(tmp_path / "out")
    assert (rows["Said by the second."].speaker, rows["Said by the second."].language) == ("Ann", "en")
    assert rows["Said by the first."].text_by == "corpus"
    assert rows["Said in a table."].audio.endswith(".flac")
    assert [row.text_by for row in rows.values() if not row.text] == [None]
    # One file name in three sources: each row has its own sound.
    for text, source in (("Said by the first.", "lj"), ("Said by the second.", "list")):
        there = (tmp_path / "out" / rows[text].audio).read_bytes()
        assert there == (tmp_path / source / "wavs/a.wav").read_bytes()
    assert report["next"][0] == f"tts-train corpus transcribe {tmp_path / 'out'}"
    assert not (tmp_path / "out/.work/merge/embedded").exists()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_stretches_are_cut_without_loss(tmp_path, capsys, subtype):
    both = np.stack([voice(3.0, seed=1), voice(3.0, seed=2)], axis=1)
    soundfile.write(tmp_path / "long.wav", both, 22_050, subtype=subtype)
    lines = [
        {"audio": "long.wav", "text": "The first part.", "start": 0.0, "end": 0.7},
        {"audio": "long.wav", "text": "All that is behind.", "start": 0.7},
    ]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    report = merge(capsys, table, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    whole, rate = soundfile.read(tmp_path / "long.wav", dtype="float64")
    at = round(0.7 * rate)
    for text, part in (("The first part.", whole[:at]), ("All that is behind.", whole[at:])):
        cut, _ = soundfile.read(tmp_path / "out" / rows[text].audio, dtype="float64")
        np.testing.assert_array_equal(cut, part)
    behind = rows["All that is behind."].cut
    assert behind == Cut(recording=f"{table.name}/long.wav", start=0.7, end=pytest.approx(len(whole) / rate, abs=0.001))
    assert report["seconds"]["kept"] == pytest.approx(len(whole) / rate, abs=0.002)


def test_one_sound_twice_is_one_row_and_completes_it(tmp_path, capsys):
    clip = wave(tmp_path / "one/a.wav", 1)
    wave(tmp_path / "two/wavs/b.wav", 1)
    (tmp_path / "two/x.list").write_text("wavs/b.wav|Ann|en|What is said.\n", encoding="utf-8")
    report = merge(capsys, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    assert (report["rows"], report["dropped"]) == (1, {"duplicate": 1})
    assert report["seconds"] == {"kept": 1.0, "duplicate": 1.0}
    (row,) = CorpusFolder.open(tmp_path / "out").rows()
    assert (row.text, row.speaker, row.text_by) == ("What is said.", "Ann", "corpus")
    assert (tmp_path / "out" / row.audio).read_bytes() == clip.read_bytes()
    told = [json.loads(line) for line in (tmp_path / "out/dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["origin"], one["reason"]) for one in told] == [("two/x.list:1", "duplicate")]
    assert len(list((tmp_path / "out/clips").iterdir())) == 1


def test_one_sound_with_two_texts_waits_for_a_person(tmp_path, capsys):
    for name, text in (("one", "A text."), ("two", "Another text."), ("three", "A third.")):
        wave(tmp_path / name / "wavs/a.wav", 1)
        wave(tmp_path / name / "wavs/own.wav", len(name) + ord(name[1]))
        (tmp_path / name / "metadata.csv").write_text(f"a|{text}\nown|Of {name} alone.\n", encoding="utf-8")
    sources = [tmp_path / name for name in ("one", "two", "three")]
    report = merge(capsys, *sources, "--out", tmp_path / "out")
    assert (report["kept"], report["removed"], report["rows"]) == (3, 3, 3)
    assert report["seconds"] == {"kept": 3.0, "removed": 3.0}
    removed = CorpusFolder.open(tmp_path / "out").rows(REMOVED)
    assert sorted(row.text for row in removed) == ["A text.", "A third.", "Another text."]
    assert {row.facts.get(CONFLICT) for row in removed} == {"A text.", "Another text.", None}
    assert len({row.audio for row in removed}) == 3
    assert all((tmp_path / "out" / row.audio).is_file() for row in removed)


def test_a_persons_text_outranks_a_recognisers(tmp_path, capsys):
    for name, text, by in (("one", "Recognised rong.", "recogniser x"), ("two", "Recognised right.", "person")):
        wave(tmp_path / name / "clips/a.wav", 1)
        folder = CorpusFolder(tmp_path / name)
        folder.write([ClipRow(audio="clips/a.wav", seconds=1.0, text=text, text_by=by)])
    report = merge(capsys, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    assert (report["kept"], report["removed"]) == (1, 1)
    (row,) = CorpusFolder.open(tmp_path / "out").rows()
    assert row.text == "Recognised right."


def test_corpus_folders_bring_their_ledger_and_cuts(tmp_path, capsys):
    for number, name in enumerate(("one", "two")):
        wave(tmp_path / name / "clips/a.wav", number)
        wave(tmp_path / name / "clips/b.wav", number + 10)
        cut = Cut(recording="interview.mp3", start=1.0, end=2.0)
        row = ClipRow(audio="clips/a.wav", seconds=1.0, text=f"In {name}.", cut=cut, facts={"snr": 30.5}, split="test")
        account = RecordingAccount(recording="interview.mp3", seconds=7.0, fates={"silence": 5.0})
        gone = ClipRow(audio="clips/b.wav", seconds=1.0, text="Taken out.")
        CorpusFolder(tmp_path / name).write([row], removed=[gone], recordings=[account], beside={JOURNAL: f"{name}\n"})
    report = merge(capsys, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    assert report["seconds"] == {"silence": 10.0, "kept": 2.0, "removed": 2.0}
    folder = CorpusFolder.open(tmp_path / "out")
    assert [row.cut.recording for row in folder.rows()] == ["one/interview.mp3", "two/interview.mp3"]
    assert {one.recording for one in folder.recordings()} == {"one/interview.mp3", "two/interview.mp3"}
    assert [(row.facts["snr"], row.split) for row in folder.rows()] == [(30.5, "test")] * 2
    assert json.loads((folder.path / "ledger.json").read_text(encoding="utf-8"))["seconds"]["silence"] == 10.0
    assert (folder.path / "changes-two.jsonl").read_text(encoding="utf-8") == "two\n"
    again = merge(capsys, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    assert (again["added"], again["seconds"]) == (0, report["seconds"])


def test_what_a_folder_has_stays_when_more_is_merged(tmp_path, capsys):
    wave(tmp_path / "one/a.wav", 1)
    merge(capsys, tmp_path / "one", "--out", tmp_path / "out")
    folder = CorpusFolder.open(tmp_path / "out")
    (row,) = folder.rows()
    folder.write([ClipRow.from_dict({**row.as_dict(), "text": "Typed by a person.", "text_by": "person"})])
    wave(tmp_path / "two/a.wav", 2)
    wave(tmp_path / "two/same.wav", 1)
    (tmp_path / "two/metadata.csv").write_text("a|Something else.\nsame|What a list says.\n", encoding="utf-8")
    report = merge(capsys, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    assert (report["added"], report["rows"], report["removed"]) == (1, 2, 1)
    assert "Typed by a person." in rows_of(tmp_path / "out")


def test_every_row_that_cannot_be_used_is_accounted_for(tmp_path, capsys):
    source = tmp_path / "in"
    wave(source / "wavs/good.wav", 1)
    wave(source / "wavs/long.wav", 2, seconds=61.0)
    (source / "wavs/zero.wav").write_bytes(b"")
    (source / "wavs/page.wav").write_text("<html>Not found</html>", encoding="utf-8")
    names = ["good", "long", "zero", "page", "gone"]
    text = "".join(f"{name}|A sentence that is said {name}.\n" for name in names) + "good||\n"
    (source / "metadata.csv").write_text(text, encoding="utf-8")
    report = merge(capsys, source, "--out", tmp_path / "out")
    assert report["rows_in"] == 6 == report["kept"] + sum(report["dropped"].values())
    assert report["seconds"] == {"too_long": 61.0, "kept": 1.0}
    reasons = {one["reason"] for one in map(json.loads, (tmp_path / "out/dropped.jsonl").open(encoding="utf-8"))}
    assert {"too_long", "not_audio", "missing"} <= reasons
    accounts = CorpusFolder.open(tmp_path / "out").recordings()
    assert {one.refused for one in accounts} == reasons
    err = refused(capsys, source / "wavs/long.wav", "--out", tmp_path / "none")
    assert "corpus slice" in err


def test_a_row_that_was_mended_is_no_longer_told_as_dropped(tmp_path, capsys):
    wave(tmp_path / "in/wavs/a.wav", 1)
    (tmp_path / "in/metadata.csv").write_text("a|A sentence.\nb|Another sentence.\n", encoding="utf-8")
    assert merge(capsys, tmp_path / "in", "--out", tmp_path / "out")["dropped"] == {"missing": 1}
    wave(tmp_path / "in/wavs/b.wav", 2)
    report = merge(capsys, tmp_path / "in", "--out", tmp_path / "out")
    assert (report["kept"], report["dropped"], report["seconds"]) == (2, {}, {"kept": 2.0})
    assert not CorpusFolder.open(tmp_path / "out").recordings()
    assert (tmp_path / "out/dropped.jsonl").read_text(encoding="utf-8") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="its names are UTF-16")
def test_names_of_old_systems_and_names_that_differ_in_case(tmp_path, capsys):
    source = tmp_path / "in"
    wave(source / "take.wav", 1)
    wave(source / "Take.wav", 2)
    shutil.copy(wave(tmp_path / "x.wav", 3), os.fsencode(source) + b"/gr\xfc\xdfe.wav")
    wave(source / "a|b, c.wav", 4)
    report = merge(capsys, source, "--out", tmp_path / "out")
    assert (report["rows"], report["dropped"]) == (4, {})
    names = [row.audio.casefold() for row in CorpusFolder.open(tmp_path / "out").rows()]
    assert len(set(names)) == 4
    assert not any(set(name) & set("|, \\") for name in names)
    again = merge(capsys, source, "--out", tmp_path / "out")
    assert (again["rows"], again["added"]) == (4, 0)


def test_speakers_are_kept_apart_where_that_is_asked(tmp_path, capsys):
    for number, name in enumerate(("one", "two")):
        wave(tmp_path / name / "a.wav", number)
        (tmp_path / name / "x.list").write_text(f"a.wav|Ann|en|Said in {name}.\n", encoding="utf-8")
    sources = [tmp_path / "one", tmp_path / "two"]
    assert merge(capsys, *sources, "--out", tmp_path / "out")["speakers"] == {"Ann": 2}
    apart = merge(capsys, *sources, "--out", tmp_path / "apart", "--prefix", "true")
    assert apart["speakers"] == {"one-Ann": 1, "two-Ann": 1}


def test_parts_of_a_data_set_stay_parts(tmp_path, capsys):
    lines = []
    for number, part in enumerate(("train", "dev", "test")):
        wave(tmp_path / f"in/{part}.wav", number)
        lines.append({"audio": f"{part}.wav", "text": f"Of {part}.", "split": part})
    table = tmp_path / "in/metadata.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert merge(capsys, tmp_path / "in", "--out", tmp_path / "out")["rows"] == 3
    assert [row.split for row in CorpusFolder.open(tmp_path / "out").rows()] == ["train", "validation", "test"]


def test_a_clip_is_a_copy_unless_a_link_is_asked_for(tmp_path, capsys):
    linked = merge(capsys, VOICE, "--out", tmp_path / "linked", "--link", "true")
    source = next((VOICE / "wavs").iterdir())
    (clip,) = (tmp_path / "linked/clips").glob(f"{source.stem}-*")
    assert clip.samefile(source) == (linked["linked"] == linked["rows"])
    for folder in ("copied", "linked"):
        assert merge(capsys, VOICE, "--out", tmp_path / folder)["linked"] == 0
        (clip,) = (tmp_path / folder / "clips").glob(f"{source.stem}-*")
        assert not clip.samefile(source), "an edited clip would change the recording"


def test_samples_in_a_table_are_read_as_samples(tmp_path, capsys):
    samples = {"array": voice(1.0, seed=7).tolist(), "sampling_rate": 24_000}
    table = tmp_path / "x.jsonl"
    table.write_text(json.dumps({"audio": samples, "text": "Numbers in a table."}) + "\n", encoding="utf-8")
    merge(capsys, table, "--out", tmp_path / "out")
    (row,) = CorpusFolder.open(tmp_path / "out").rows()
    assert (tmp_path / "out" / row.audio).read_bytes() == encode_array(samples)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "does not exist"),
        (["in", "--out", "in/below"], "lies in"),
        (["in", "--out", "full"], "is not empty"),
        (["empty"], "empty folder"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    wave(tmp_path / "in/a.wav", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("mine", encoding="utf-8")
    words = words if "--out" in words else [*words, "--out", "out"]
    assert told in refused(capsys, *words)


def test_a_killed_merge_continues(tmp_path, capsys):
    clips = [wave(tmp_path / f"in/{number:03}.wav", number, seconds=0.3) for number in range(200)]
    out, done = tmp_path / "out", tmp_path / "out/.work/merge"
    words = [sys.executable, "-m", "tts_train", "corpus", "merge", tmp_path / "in", "--out", out]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(done.glob("*.json")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in done.glob("*.json")}
    assert before
    report = merge(capsys, tmp_path / "in", "--out", out)
    assert report["rows"] == len(clips) == len(list((out / "clips").iterdir()))
    assert {name: (done / name).stat().st_mtime_ns for name in before} == before


def test_the_source_that_is_to_be_cut_is_named(tmp_path, capsys):
    wave(tmp_path / "short/a.wav", 1)
    wave(tmp_path / "long.wav", 2, seconds=61.0)
    assert (
        main(["corpus", "merge", *map(str, [tmp_path / "short", tmp_path / "long.wav", "--out", tmp_path / "all"])])
        == 0
    )
    assert f"corpus slice {tmp_path / 'long.wav'}" in capsys.readouterr().err


def test_what_rows_say_besides_comes_along_and_goes_out_again(tmp_path, capsys):
    wave(tmp_path / "qwen/ref.wav", 9, seconds=2.0)
    lines = []
    for number, name in enumerate("abc"):
        wave(tmp_path / f"qwen/{name}.wav", number)
        more = {"ref_audio": "./none.wav" if name == "c" else "./ref.wav", "audio_codes": [[number, 2], [3, 4]]}
        lines.append(json.dumps({"audio": f"./{name}.wav", "text": f"Said by {name}.", "instruct": "Calm.", **more}))
    (tmp_path / "qwen/train_raw.jsonl").write_text("\n".join(lines), encoding="utf-8")
    merge(capsys, tmp_path / "qwen/train_raw.jsonl", "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    first, second, third = (rows[f"Said by {name}."] for name in "abc")
    assert (first.instruct, first.audio_codes) == ("Calm.", [[0, 2], [3, 4]])
    # One file for all rows that name it.
    assert first.reference == second.reference
    assert (tmp_path / "out" / first.reference).read_bytes() == (tmp_path / "qwen/ref.wav").read_bytes()
    assert third.reference is None
    assert third.facts["reference_missing"].endswith("none.wav")

    merge(capsys, tmp_path / "out", "--out", tmp_path / "again")
    again = rows_of(tmp_path / "again")["Said by a."]
    assert (again.instruct, again.reference, again.audio_codes) == ("Calm.", first.reference, first.audio_codes)

    words = [tmp_path / "again", "--format", "jsonl", "--out", tmp_path / "lines"]
    assert main(["corpus", "export", *map(str, words)]) == 0
    for corpus in (tmp_path / "again", tmp_path / "lines"):
        read = {row.text: row for row in open_corpus(corpus).rows()}
        assert read["Said by b."].codes.tolist() == [[1, 2], [3, 4]]
        assert read["Said by b."].instruct == "Calm."
        assert read["Said by b."].reference.read_bytes() == (tmp_path / "qwen/ref.wav").read_bytes()
        assert read["Said by c."].reference is None


def test_a_reference_outside_of_a_corpus_folder_is_refused(tmp_path, capsys):
    wave(tmp_path / "lj/wavs/a.wav", 1)
    (tmp_path / "lj/metadata.csv").write_text("a|Said by the first.\n", encoding="utf-8")
    merge(capsys, tmp_path / "lj", "--out", tmp_path / "out")
    (row,) = CorpusFolder.open(tmp_path / "out").rows()
    CorpusFolder(tmp_path / "out").write([replace(row, reference="../lj/wavs/a.wav")])
    assert "lies outside of the folder" in refused(capsys, tmp_path / "out", "--out", tmp_path / "again")
