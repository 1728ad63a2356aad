"""What rows say besides their text: how they are spoken, a reference, and the codes of a codec."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.core.corpus.sounds import TEXT, encoded, voice, write_clips
from tts_train.corpus import Rejected, RowRejected, Utterance, read_audio
from tts_train.corpus.probing import survey
from tts_train.corpus.read import open_corpus
from tts_train.corpus.rows.codes import read_codes
from tts_train.datasets.store.shard_store import input_of

FRAMES = [[frame * 16 + book for book in range(16)] for frame in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clips(tmp_path, ["data/a.wav", "data/b.wav", "data/ref.wav"])
    return tmp_path


def jsonl(folder: Path, *rows: dict[str, object], name: str = "train_raw.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def row(name: str = "a", **more: object) -> dict[str, object]:
    return {"audio": f"./data/{name}.wav", "text": f"{TEXT} {name}", **more}


def utterances(path: Path, **options: object) -> list[Utterance]:
    found = list(open_corpus(path, **options).rows())
    assert [each for each in found if isinstance(each, Rejected)] == []
    return found


def test_qwens_lines_are_read(folder: Path):
    more = {"ref_audio": "./data/ref.wav", "language": "English", "audio_codes": FRAMES}
    # Paths start at the file's folder, wherever the command runs.
    first, second = utterances(jsonl(folder, row(**more), row("b", ref_audio="data/ref.wav")))
    assert first.audio == folder / "data/a.wav"
    assert first.reference == second.reference == folder / "data/ref.wav"
    assert (first.language, first.instruct, first.warnings) == ("en", None, ())
    assert first.codes.dtype == np.int64
    assert first.codes.tolist() == FRAMES
    assert second.codes is None
    read_audio(first.reference, root=folder)


@pytest.mark.parametrize("name", ["instruct", "instruction", "Style Prompt", "text_description"])
def test_instructions_by_their_names(folder: Path, name: str):
    (said, none) = utterances(jsonl(folder, row(**{name: " Very\u200b  calm. "}), row("b", **{name: ""})))
    assert (said.instruct, none.instruct) == ("Very calm.", None)


def test_a_label_instructs_where_that_is_said(folder: Path):
    path = jsonl(folder, row(style="happy"))
    assert utterances(path)[0].instruct is None
    assert utterances(path, layout="instruct=style")[0].instruct == "happy"


def test_tables(folder: Path):
    write_clips(folder, ["wavs/a.wav", "wavs/b.wav"])
    lines = [
        "file_name,text,reference_audio,instruction,audio_codes",
        'a.wav,One two three.,data/ref.wav,"Fast, and loud.","[[1, 2], [3, 4]]"',
        "b.wav,Four five six.,,,",
    ]
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    first, second = utterances(folder / "metadata.csv")
    assert (first.instruct, first.reference) == ("Fast, and loud.", folder / "data/ref.wav")
    assert first.codes.tolist() == [[1, 2], [3, 4]]
    assert (second.instruct, second.reference, second.codes, second.warnings) == (None, None, None, ())
    (folder / "metadata.csv").write_text("a|Calm.|data/ref.wav|One two three.\n", encoding="utf-8")
    (only,) = utterances(folder / "metadata.csv", layout="audio|instruct|reference|text")
    assert (only.text, only.instruct, only.reference) == ("One two three.", "Calm.", folder / "data/ref.wav")


def test_parquet_with_references_in_it(folder: Path):
    sounds = [{"bytes": encoded(voice(seed=seed)), "path": None} for seed in (7, 8)]
    reference = {"bytes": encoded(voice(seed=9)), "path": "ref.wav"}
    table = {"audio": sounds, "text": ["One.", "Two."], "ref_audio": [reference, None], "instruct": ["Calm.", None]}
    codes = pa.array([FRAMES, None], pa.list_(pa.list_(pa.int16())))
    pq.write_table(pa.table({**table, "audio_codes": codes}), folder / "x.parquet")
    first, second = utterances(folder / "x.parquet")
    assert (first.reference, first.instruct, first.codes.tolist()) == (reference["bytes"], "Calm.", FRAMES)
    assert (second.reference, second.instruct, second.codes) == (None, None, None)


def test_a_reference_that_is_not_there_costs_no_row_and_is_told(folder: Path):
    outside = folder.parent / "outside.wav"
    outside.write_bytes(encoded())
    path = jsonl(folder, row(ref_audio="data/none.wav"), row("b", ref_audio=str(outside)))
    first, second = utterances(path)
    assert first.warnings == second.warnings == ("reference_missing",)
    assert first.reference == folder / "data/none.wav"
    with pytest.raises(RowRejected, match="no file"):
        read_audio(first.reference, root=folder)
    with pytest.raises(RowRejected, match="leads out of"):
        read_audio(second.reference, root=folder)
    assert survey(path)["warnings"] == {"reference_missing": 2, "unlisted_audio": 1}
    (bad,) = open_corpus(jsonl(folder, row(ref_audio="a\0b"))).rows()
    assert (bad.reason, bad.detail) == ("bad_row", "its reference has a name that no file can have")


def test_references_are_no_recordings_that_the_list_forgot(folder: Path):
    corpus = open_corpus(jsonl(folder, row(ref_audio="data/ref.wav"), row("b")))
    list(corpus.rows())
    assert corpus.unlisted_audio() == 0


def test_references_of_two_speakers_are_not_taken_for_each_other(folder: Path):
    """The end of a path of another machine is enough only where it stands for one file."""
    rows = [row(ref_audio="/elsewhere/ann/ref.wav"), row("b", ref_audio="/elsewhere/bob/ref.wav")]
    assert [each.warnings for each in utterances(jsonl(folder, *rows))] == [("reference_missing",)] * 2
    assert [each.warnings for each in utterances(jsonl(folder, rows[0]))] == [("path_relocated",)]


def test_codes_stand_for_a_recording_that_is_not_there(folder: Path):
    path = jsonl(folder, row("gone", audio_codes=FRAMES), row("lost"), row("../../etc/x", audio_codes=FRAMES))
    kept, missing, outside = open_corpus(path).rows()
    assert kept.audio == folder / "data/gone.wav"
    assert kept.warnings == ("recording_missing",)
    assert missing.reason == "missing"
    assert outside.reason == "outside_root"
    # check reads recordings, and says what whoever has no use for the codes will find.
    assert survey(path)["dropped"] == {"missing": 2, "outside_root": 1}


@pytest.mark.parametrize(
    "given",
    [[1, 2, 3], [[1, 2], [3]], [[0.5, 1.0]], [[-1, 2]], [[[1]]], "[[1, 2", "no", {"a": 1}, [["a"]], [[1 << 40]], [[]]],
)
def test_what_is_no_list_of_frames_is_told_and_not_read(folder: Path, given: object):
    assert read_codes(given) == (None, ("codes_unread",))
    (found,) = utterances(jsonl(folder, row(audio_codes=given)))
    assert (found.codes, found.warnings) == (None, ("codes_unread",))


def test_what_a_shard_depends_on(folder: Path):
    def key(**more: object) -> list[bytes | str]:
        return list(input_of(utterances(jsonl(folder, row(**more)))[0]))

    plain, codes = key(), {"audio_codes": [[1, 2], [3, 4]]}
    found = [plain, key(instruct="Calm."), key(ref_audio="data/ref.wav"), key(**codes), key(audio_codes=[[1, 2, 3, 4]])]
    assert len({repr(each) for each in found}) == 5
    before = key(ref_audio="data/ref.wav")
    (folder / "data/ref.wav").write_bytes(encoded(voice(seed=11)))
    assert key(ref_audio="data/ref.wav") != before


def test_rows_with_codes_compare_and_are_keys(folder: Path):
    path = jsonl(folder, row(audio_codes=FRAMES))
    (one,), (other,) = utterances(path), utterances(path)
    assert one == other
    assert len({one, other}) == 1


def test_what_columns_were_taken_for_is_told(folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        utterances(jsonl(folder, row(ref_audio="data/ref.wav", instruct="Calm.", audio_codes=FRAMES, style="x")))
    told = "audio, text, instruct, reference is 'ref_audio', codes is 'audio_codes'; not used: 'style'"
    assert told in caplog.text
    assert "instruct 'Calm.', reference 'data/ref.wav'" in caplog.text
