"""Where recordings are looked for, which parts of a data set are read, and what folders name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.core.corpus.sounds import RATE, TEXT, voice
from tts_train.corpus import Rejected, Utterance, read_audio
from tts_train.corpus.read import open_corpus
from tts_train.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}|ann|en|{TEXT} {number}\n" for number, name in enumerate(names)))
    return path


def found(path: Path, root: Path, layout: str = "auto") -> list[str]:
    """Path of each kept row's recording below ``root``, the reason of each other row."""
    rows = open_corpus(path, layout=layout).rows()
    return [row.reason if isinstance(row, Rejected) else row.audio.relative_to(root).as_posix() for row in rows]


def test_paths_start_where_the_tool_stood(tmp_path: Path):
    root = tmp_path / "output"
    touch(root, "slices/a.wav", "slices/b.wav", "denoised/deep/c.wav")
    names = ["output/slices/a.wav", "output\\slices\\b.wav", "D:\\tool\\output\\denoised\\c.wav"]
    path = listed(root / "asr" / "slices.list", *names)
    assert found(root, root) == ["slices/a.wav", "slices/b.wav", "denoised/deep/c.wav"]
    assert found(tmp_path, root) == ["slices/a.wav", "slices/b.wav", "denoised/deep/c.wav"]
    # Named alone, the list's folder is the corpus: what lies beside it is not looked at, but said.
    rows = [row for row in open_corpus(path).rows() if isinstance(row, Rejected)]
    assert [row.reason for row in rows] == ["outside_root", "outside_root", "missing"]
    assert rows[0].detail.endswith(f"name the folder that holds both: {root}")
    # Lists in a folder of their own, as Tacotron's and VITS's.
    path = listed(root / "filelists" / "train.list", "../slices/a.wav", "DUMMY/b.wav")
    assert found(path, root) == ["outside_root", "missing"]
    with pytest.raises(DataError, match=r"asr/slices\.list, filelists/train\.list.*--corpus_format LIST"):
        open_corpus(root)
    assert found(root, root, "filelists/train.list") == ["slices/a.wav", "slices/b.wav"]
    (root / "asr" / "slices.list").unlink()
    assert found(root, root) == ["slices/a.wav", "slices/b.wav"]


def test_an_end_that_several_paths_share_names_no_file(tmp_path: Path):
    touch(tmp_path, "ann/0001.wav", "bob/0002.wav", "cyd/0002.wav")
    # Of ann's recordings 0001 is there; bob's 0001 was not copied.
    path = listed(tmp_path / "x.list", "/data/ann/0001.wav", "/data/eve/0001.wav", "/data/eve/0002.wav")
    assert found(path, tmp_path) == ["ann/0001.wav", "missing", "missing"]


def test_one_recording_under_two_spellings_is_one(tmp_path: Path):
    touch(tmp_path, "wavs/a.wav", "wavs/b.wav")
    (tmp_path / "wavs" / "link.wav").symlink_to(tmp_path / "wavs" / "a.wav")
    spellings = ["wavs/a.wav", "./wavs/a.wav", "wavs//a.wav", "wavs\\a.wav", "a", "A.WAV", "wavs/link.wav"]
    spellings += [str(tmp_path / "wavs" / "a.wav"), "wavs/../wavs/a.wav"]
    path = tmp_path / "x.list"
    path.write_text("".join(f"{name}|ann|en|{TEXT}\n" for name in spellings))
    assert found(path, tmp_path) == ["wavs/a.wav", *["duplicate"] * 8]
    # Two texts for it: neither is kept, and the recording is not one that no row names.
    path.write_text("".join(f"{name}|ann|en|{TEXT} {n}\n" for n, name in enumerate(["wavs/b.wav", *spellings])))
    assert found(path, tmp_path) == ["wavs/b.wav", *["conflict"] * 9]
    corpus = open_corpus(path)
    assert list(corpus.rows())
    assert corpus.unlisted_audio() == 0


@pytest.mark.parametrize("kind", ["csv", "jsonl", "pairs", "list", "parquet", "arrow", "one table", "column"])
def test_only_the_train_part_is_read(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture):
    parts = {"train": 2, "validation": 1, "test": 1} if kind != "pairs" else {"train-clean-100": 2, "dev-clean": 1}
    rows = [(f"{part}/{n}.wav", f"{TEXT} {part} {n}", part) for part, count in parts.items() for n in range(count)]
    touch(tmp_path, *[name for name, _, _ in rows if kind not in ("parquet", "arrow")])
    write_parts(tmp_path, kind, rows)
    kept = [row.text for row in open_corpus(tmp_path).rows() if isinstance(row, Utterance)]
    assert kept == [text for _, text, part in rows if part.startswith("train")]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "of the train split; not reading" in warning
    assert ("test" if kind != "pairs" else "dev-clean") in warning


def write_parts(folder: Path, kind: str, rows: list[tuple[str, str, str]]) -> None:
    """Write rows of (path, text, part) in a layout that keeps parts apart."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in dict.fromkeys(part for _, _, part in rows):
        mine = [(name.partition("/")[2], text) for name, text, of in rows if of == part]
        sound = pa.table({"audio": [text.encode() for _, text in mine], "text": [text for _, text in mine]})
        if kind == "csv":
            (folder / part / "metadata.csv").write_text("\n".join(["file_name,text", *(f'{n},"{t}"' for n, t in mine)]))
        elif kind == "jsonl":
            lines = (json.dumps({"audio_filepath": f"{part}/{n}", "text": t, "duration": 1.5}) for n, t in mine)
            (folder / f"{part}_manifest.json").write_text("\n".join(lines))
        elif kind == "list":
            (folder / f"voice_{part}.list").write_text("\n".join(f"{part}/{n}|ann|en|{t}" for n, t in mine))
        elif kind == "pairs":
            for name, text in mine:
                (folder / part / name).with_suffix(".txt").write_text(text)
        elif kind == "parquet":
            pq.write_table(sound, folder / f"{part}-00000-of-00001.parquet")
        elif kind == "arrow":
            (folder / part).mkdir()
            with pa.ipc.new_stream(str(folder / part / "data-0.arrow"), sound.schema) as stream:
                stream.write_table(sound)
            (folder / part / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
            (folder / "dataset_dict.json").write_text(json.dumps({"splits": sorted({part for _, _, part in rows})}))
    if kind == "one table":
        lines = [f'{name},"{text}"' for name, text, _ in rows]
        (folder / "metadata.csv").write_text("\n".join(["file_name,text", *lines]))
    if kind == "column":
        lines = [f'{name},"{text}",{part}' for name, text, part in rows]
        (folder / "metadata.csv").write_text("\n".join(["file_name,text,Split", *lines]))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "list", "pairs", "parquet", "arrow"])
def test_other_parts_are_read_when_they_are_named(tmp_path: Path, kind: str):
    touch(tmp_path, *[name for name in ("validation/0.wav",) if kind != "arrow"])
    write_parts(tmp_path, kind, [("validation/0.wav", TEXT, "validation")])
    with pytest.raises(DataError, match=r"holds only \S*validation\S*, and no train split.*name it") as refused:
        open_corpus(tmp_path)
    named = Path(str(refused.value).rpartition("name it: ")[2])
    assert [row.text for row in open_corpus(named).rows() if isinstance(row, Utterance)] == [TEXT]


def test_a_speaker_per_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    touch(tmp_path, "en/ann/a.wav", "en/ann/b.wav", "de/bob/a.wav")
    for path in tmp_path.rglob("*.wav"):
        path.with_suffix(".txt").write_text(f"{TEXT} {path.parent.name}")
    speakers = [(row.speaker, row.language) for row in open_corpus(tmp_path).rows() if isinstance(row, Utterance)]
    assert speakers == [(None, None)] * 3
    assert "(ann, bob)" in caplog.text
    assert "--corpus_format speaker/audio" in caplog.text
    touch(tmp_path / "more", "ann/wavs/a.wav", "bob/wavs/b.wav")
    for path in (tmp_path / "more").rglob("*.wav"):
        (path.parents[1] / "metadata.csv").write_text(f"{path.stem}|{TEXT}\n")
    assert [row.speaker for row in open_corpus(tmp_path / "more").rows() if isinstance(row, Utterance)] == [None, None]
    assert "--corpus_format speaker/-/audio" in caplog.text
    named = open_corpus(tmp_path / "more", layout="speaker/-/audio").rows()
    assert [row.speaker for row in named if isinstance(row, Utterance)] == ["ann", "bob"]
    for name in ("ann", "bob"):
        (tmp_path / "more" / name / "metadata.csv").unlink()
    for layout, expected in {
        "speaker/audio": [("bob", None), ("ann", None), ("ann", None)],
        "language/speaker/audio": [("bob", "de"), ("ann", "en"), ("ann", "en")],
        "speaker/-/audio": [("de", None), ("en", None), ("en", None)],
    }.items():
        rows = [row for row in open_corpus(tmp_path, layout=layout).rows() if isinstance(row, Utterance)]
        assert [(row.speaker, row.language) for row in rows] == expected


def test_decoded_samples_are_read(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    sound = voice()
    decoded = [{"array": sound, "sampling_rate": RATE, "path": "a.wav"}, {"array": None, "sampling_rate": RATE}]
    whole = [
        {"array": sound, "sampling_rate": None},
        {"array": np.stack([sound, sound]).tolist(), "sampling_rate": RATE},
    ]
    kind = pa.struct({"array": pa.list_(pa.float32()), "sampling_rate": pa.int64(), "path": pa.string()})
    audio = pa.array([*decoded, whole[0]], kind)
    pq.write_table(pa.table({"audio": audio, "text": [TEXT] * 3}), tmp_path / "x.parquet")
    first, lost, unrated = open_corpus(tmp_path).rows()
    assert isinstance(first, Utterance)
    assert np.array_equal(read_audio(first.audio).samples, sound)
    assert [row.id for row in open_corpus(tmp_path).rows() if isinstance(row, Utterance)] == [first.id]
    assert isinstance(lost, Rejected)
    assert isinstance(unrated, Rejected)
    assert (lost.reason, unrated.reason) == ("bad_row", "bad_row")
    assert "cast_column" in unrated.detail
    flat = {"audio": sound.tolist(), "text": TEXT}
    objects = [{"audio": whole[1], "text": TEXT}, {**flat, "sampling_rate": RATE}, flat]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, objects)))
    thirty = {"array": np.zeros((30, 40)).tolist(), "sampling_rate": 1 << 27}
    (tmp_path / "fast.jsonl").write_text(json.dumps({"audio": thirty, "text": TEXT}))
    (fast,) = open_corpus(tmp_path / "fast.jsonl").rows()
    assert isinstance(fast, Rejected)
    assert "134217728 Hz with 30 channels" in fast.detail
    stereo, alone, unrated = open_corpus(tmp_path / "x.jsonl").rows()
    assert isinstance(alone, Utterance)
    assert alone.id == first.id
    assert isinstance(unrated, Rejected)
    assert "cast_column" in unrated.detail
    assert isinstance(stereo, Utterance)
    assert read_audio(stereo.audio).samples.shape == sound.shape


def test_json_in_one_value(tmp_path: Path):
    touch(tmp_path, "a.wav", "b.wav")
    rows = [{"wav": "a.wav", "text": TEXT, "speaker": 3.0}, {"wav": "b.wav", "text": TEXT, "speaker": ["x"]}, 5]
    (tmp_path / "all.json").write_text(json.dumps(rows, indent=2))
    first, *others = open_corpus(tmp_path / "all.json").rows()
    assert isinstance(first, Utterance)
    assert (first.speaker, first.origin) == ("3", "all.json:1")
    assert [row.reason for row in others if isinstance(row, Rejected)] == ["bad_row"] * 2
    for wrong in ('{\n"a": 1\n}', "[1,", '"x"'):
        (tmp_path / "all.json").write_text(wrong)
        with pytest.raises(DataError, match="one object a line, or a list of objects"):
            list(open_corpus(tmp_path / "all.json").rows())
