"""``corpus export``: every layout that is read is written, and says what the corpus says."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import soundfile

from tests.core.corpus.sounds import encoded, voice
from tts_train.cli import main
from tts_train.corpus import Utterance, read_audio
from tts_train.corpus.read import open_corpus
from tts_train.corpus.rows.text import clean_text
from tts_train.curation.exchange.export import FORMATS, _names
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow

HARD = (
    'He said "yes", and she said "no".',
    '"Quoted from end to end."',
    "Commas, semicolons; and 'single' ones.",
    "Grüße aus Köln – naïve façade.",
    "שלום עולם, זה מבחן.",
    "مرحبا بالعالم.",
    "=1+1 is a sum.",
    "@home +49 -5 is no formula.",
    "Two lines,\nand a tab\there.",
    "今日はいい天気ですね。",
    "One, two, three, four, five.",
    "Back\\slash and %d and {braces}.",
)
BARRED = "A bar | in the text."
ONE_SPEAKER = ("ljspeech", "f5")
NO_BARS = (*ONE_SPEAKER, "piper", "list", "styletts2", "vits")
PARTS = ("train", "train", "train", "validation")


def make(folder, texts, *, speakers=(None,), parts=(None,), suffix=".wav", subtype="PCM_16"):
    (folder / "clips").mkdir(parents=True)
    rows = []
    for number, text in enumerate(texts):
        clip = folder / "clips" / f"c{number:02}{suffix}"
        clip.write_bytes(encoded(voice(1.2 + number / 100, seed=number), subtype=subtype))
        speaker, part = speakers[number % len(speakers)], parts[number % len(parts)]
        seconds = round(1.2 + number / 100, 3)
        row = ClipRow(audio=f"clips/{clip.name}", seconds=seconds, text=text, speaker=speaker, split=part)
        rows.append(ClipRow.from_dict({**row.as_dict(), "language": "en" if speaker else None}))
    made = CorpusFolder(folder)
    made.write(rows)
    return made


def export(capsys, folder, name, out, *words) -> dict:
    assert main(["corpus", "export", *map(str, [folder.path, "--format", name, "--out", out, *words, "--json"])]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, folder, *words) -> str:
    assert main(["corpus", "export", *map(str, [folder.path, *words])]) == 2
    return capsys.readouterr().err


def texts_of(path, **options) -> list[str]:
    return sorted(row.text for row in open_corpus(path, **options).rows() if isinstance(row, Utterance))


@pytest.mark.parametrize("name", FORMATS)
def test_hard_texts_read_back_or_are_left_out_by_name(tmp_path, capsys, name):
    several = name not in ONE_SPEAKER
    speakers = ("Ann", "Zoë Müller", "bob") if several and name != "pairs" else ("Ann", "Bob") if several else (None,)
    folder = make(tmp_path / "in", [*HARD, BARRED, ""], speakers=speakers)
    report = export(capsys, folder, name, tmp_path / "out")
    assert report["verified"] is True
    expected = {"no_text": 1, **({"bar_in_text": 1} if name in NO_BARS else {})}
    assert report["refused"] == expected
    assert report["rows_in"] == len(HARD) + 2 == report["rows"] + sum(report["refused"].values())
    assert sum(report["seconds"].values()) == pytest.approx(sum(row.seconds for row in folder.rows()), abs=0.002)
    told = {"layout": report["corpus_format"]}
    kept = [*HARD, *([] if name in NO_BARS else [BARRED])]
    assert texts_of(tmp_path / "out", **told) == sorted(clean_text(text)[0] for text in kept)
    assert main(["check", str(tmp_path / "out"), "--corpus_format", report["corpus_format"], "--json"]) == 0


@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_apart_and_none_is_lost(tmp_path, capsys, name):
    texts = [f"This is sentence number {number} of the set." for number in range(12)]
    folder = make(tmp_path / "in", texts, parts=PARTS)
    report = export(capsys, folder, name, tmp_path / "out")
    assert report["parts"] == {"train": 9, "validation": 3}
    held = {texts[number] for number in (3, 7, 11)}
    # What trains is what the folder gives; nothing that is held out is among it.
    assert set(texts_of(tmp_path / "out", layout=report["corpus_format"])) == set(texts) - held
    if name == "jsonl":
        assert set(texts_of(tmp_path / "out", every_part=True)) == set(texts)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_exported_comes_back_by_merge(tmp_path, capsys, name):
    texts = [f"This is sentence number {number} of the set." for number in range(8)]
    folder = make(tmp_path / "in", texts, parts=("train", "test", "validation", "train"), speakers=("Ann",))
    report = export(capsys, folder, name, tmp_path / "out")
    words = [tmp_path / "out", "--corpus_format", report["corpus_format"], "--out", tmp_path / "back"]
    assert main(["corpus", "merge", *map(str, words)]) == 0
    assert "named by no row" not in capsys.readouterr().err
    back = CorpusFolder.open(tmp_path / "back").rows()
    assert sorted((row.text, row.split) for row in back) == sorted((row.text, row.split) for row in folder.rows())
    if name not in ONE_SPEAKER:
        assert {row.speaker for row in back} <= {"Ann", "0"}


@pytest.mark.parametrize("name", ["audiofolder", "huggingface", "pairs", "styletts2"])
def test_few_rows_are_read_as_they_are(tmp_path, capsys, name):
    folder = make(tmp_path / "in", ["Only one."], speakers=("Ann",))
    report = export(capsys, folder, name, tmp_path / "out")
    assert (report["rows"], report["verified"]) == (1, True)


@pytest.mark.parametrize("name", FORMATS)
def test_held_out_rows_alone_are_exported(tmp_path, capsys, name):
    folder = make(tmp_path / "in", ["One sentence here.", "Another one there."], parts=("validation", "test"))
    report = export(capsys, folder, name, tmp_path / "out")
    assert (report["verified"], report["parts"]) == (True, {"validation": 1, "test": 1})
    (check,) = report["next"]
    assert main(check.split()[1:]) == 0


@pytest.mark.parametrize(("kind", "rate", "subtype"), [("wav", 16_000, "PCM_16"), ("flac", None, "PCM_24")])
def test_recordings_are_written_as_asked(tmp_path, capsys, kind, rate, subtype):
    folder = make(tmp_path / "in", ["One text.", "Another text."], subtype=subtype)
    report = export(
        capsys, folder, "jsonl", tmp_path / "out", "--audio", kind, *(["--sample_rate", rate] if rate else [])
    )
    assert report["rows"] == 2
    for file in sorted((tmp_path / "out/audio").iterdir()):
        info = soundfile.info(file)
        assert (info.format, info.subtype, info.samplerate) == (kind.upper(), subtype, rate or 24_000)
        if not rate:
            source = folder.path / "clips" / f"{file.stem}.wav"
            before, after = soundfile.read(source, dtype="int32")[0], soundfile.read(file, dtype="int32")[0]
            np.testing.assert_array_equal(after, before)


def test_a_lossy_clip_is_copied_as_it_is_or_decoded(tmp_path, capsys):
    folder = make(tmp_path / "in", ["One text.", "Another text."])
    rows = folder.rows()
    ogg = folder.path / "clips/c00.ogg"
    ogg.write_bytes(encoded(voice(0.5), format="OGG", subtype="VORBIS"))
    folder.write([ClipRow.from_dict({**rows[0].as_dict(), "audio": "clips/c00.ogg"}), rows[1]])
    export(capsys, folder, "audiofolder", tmp_path / "kept")
    assert (tmp_path / "kept/audio/c00.ogg").read_bytes() == ogg.read_bytes()
    export(capsys, folder, "ljspeech", tmp_path / "wav")
    assert read_audio(tmp_path / "wav/wavs/c00.wav").seconds == pytest.approx(read_audio(ogg).seconds, abs=0.001)


def test_a_clip_that_cannot_be_read_is_left_out_by_name(tmp_path, capsys):
    folder = make(tmp_path / "in", ["One text.", "Another text.", "A third text."])
    (folder.path / "clips/c01.wav").write_bytes(b"RIFF")
    (folder.path / "clips/c02.wav").unlink()
    report = export(capsys, folder, "parquet", tmp_path / "out")
    assert (report["rows"], set(report["refused_rows"])) == (1, {"clips/c01.wav", "clips/c02.wav"})


def test_a_part_whose_only_row_is_left_out_has_no_table(tmp_path, capsys):
    folder = make(tmp_path / "in", ["One text.", "Another text.", "A third text."], parts=("train",))
    (folder.path / "clips/audio.wav").write_bytes(encoded(voice(0.7)))
    # It is read as the head of a table.
    folder.write([*folder.rows(), ClipRow(audio="clips/audio.wav", seconds=0.7, text="text", split="validation")])
    report = export(capsys, folder, "piper", tmp_path / "out")
    assert report["refused_rows"] == {"clips/audio.wav": "not_read_back"}
    assert report["parts"] == {"train": 3}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"metadata.csv", "tts_train.json", "wavs"}


def test_thousands_of_long_names_that_begin_alike_are_named_at_once():
    rows = [ClipRow(audio=f"clips/{'a' * 70}-{number:07d}.flac", seconds=1.0) for number in range(20_000)]
    names = _names(FORMATS["ljspeech"](), rows, "wav")
    assert len({name.casefold() for name in names}) == len(rows)
    assert names[-1] == f"wavs/{'a' * 60}-20000.wav"


def test_names_that_differ_in_case_alone_stay_apart(tmp_path, capsys):
    folder = make(tmp_path / "in", ["One text.", "Another text."])
    for name, seed in (("A b.wav", 1), ("a b.wav", 2), ("A b.flac", 3)):
        (folder.path / "clips" / name).write_bytes(encoded(voice(0.5, seed=seed)))
    rows = [ClipRow(audio=f"clips/{n}", seconds=0.5, text=f"Of {n}.") for n in ("A b.wav", "a b.wav", "A b.flac")]
    folder.write(rows)
    report = export(capsys, folder, "ljspeech", tmp_path / "out")
    assert report["rows"] == 3
    assert len({file.name.casefold() for file in (tmp_path / "out/wavs").iterdir()}) == 3


def test_what_a_layout_cannot_say_is_refused(tmp_path, capsys):
    folder = make(tmp_path / "in", ["One text.", "Another text."], speakers=("Ann", "Bob"))
    err = refused(capsys, folder, "--format", "ljspeech", "--out", tmp_path / "out")
    assert "--speaker NAME" in err
    assert not (tmp_path / "out").exists()
    assert export(capsys, folder, "ljspeech", tmp_path / "out", "--speaker", "Bob")["rows"] == 1
    assert "names Ann, Bob" in refused(capsys, folder, "--format", "f5", "--out", tmp_path / "x", "--speaker", "Eve")
    err = refused(capsys, folder, "--format", "mp3", "--out", tmp_path / "x")
    assert "huggingface" in err
    err = refused(capsys, folder, "--format", "jsonl", "--out", tmp_path / "x", "--sample_rate", 16_000)
    assert "--audio wav or flac" in err
    assert "lies in" in refused(capsys, folder, "--format", "jsonl", "--out", folder.path / "x")


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path, capsys):
    folder = make(tmp_path / "in", ["One text.", "Another text."])
    for _ in range(2):
        export(capsys, folder, "pairs", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine", encoding="utf-8")
    assert "no earlier export" in refused(capsys, folder, "--format", "pairs", "--out", tmp_path / "mine")


def test_the_hub_folder_loads_with_its_audio_feature(tmp_path, capsys, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = make(tmp_path / "in", HARD, speakers=("Ann", "Bob"), parts=PARTS)
    export(capsys, folder, "huggingface", tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {part: len(rows) for part, rows in loaded.items()} == {"train": 9, "validation": 3}
    assert isinstance(loaded["train"].features["audio"], datasets.Audio)
    row = loaded["validation"].cast_column("audio", datasets.Audio(decode=False))[0]
    assert (row["text"], row["speaker"]) == (HARD[3], "Bob")
    samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
    np.testing.assert_array_equal(samples, soundfile.read(folder.path / "clips/c03.wav", dtype="int16")[0])
