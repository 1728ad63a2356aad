"""Experiment folders as upstream writes them, in and out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from tests.gpt_sovits.filling import wave
from tts_train.corpus import Rejected
from tts_train.corpus.layouts.experiment import Experiment
from tts_train.errors import DataError, UnsafeFileError
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.preparing.adopt import token_agreement
from tts_train_gpt_sovits.preparing.encode import GptSovitsEncoder
from tts_train_gpt_sovits.released.experiment import ExperimentRow, language_of, parse_counts, read_experiment
from tts_train_gpt_sovits.released.experiment_write import write_experiment, write_prepared
from tts_train_gpt_sovits.text.reading import symbol_table

CHINESE = ("a.wav", "n i3 h ao3 ,", "[2, 2, 1]", "你好,")
ENGLISH = ("b.wav", "HH AH0 L OW1 .", "None", "hello.")
SAMPLES, FRAMES, TOKENS = 32_000, 49, 24


def upstream_folder(folder, rows=(CHINESE, ENGLISH), *, features=torch.float16, learnable=True):
    """Write what upstream's scripts write: tensors of speech features learn, by an oversight."""
    for part in ("3-bert", "4-cnhubert", "5-wav32k", "7-sv_cn"):
        (folder / part).mkdir(parents=True)
    generator = torch.Generator().manual_seed(1)
    lines = []
    for name, phones, counts, text in rows:
        number = len(phones.split())
        if counts != "None":
            bert = torch.randn(number, 1024, generator=generator).to(features)
            torch.save(bert.T, folder / "3-bert" / f"{name}.pt")
        ssl = torch.randn(1, FRAMES, 768, generator=generator).to(features).transpose(1, 2)
        torch.save(ssl.requires_grad_(learnable), folder / "4-cnhubert" / f"{name}.pt")
        sound = (10_000 * wave(SAMPLES, 32_000, name)).astype(np.int16)
        soundfile.write(folder / "5-wav32k" / name, sound, 32_000)
        torch.save(torch.randn(1, 20480, generator=generator).to(features), folder / "7-sv_cn" / f"{name}.pt")
        lines.append("\t".join((name, phones, counts, text)))
    (folder / "2-name2text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    codes = [f"{row[0]}\t{' '.join(str((7 * i + len(row[1])) % 1024) for i in range(TOKENS))}" for row in rows]
    (folder / "6-name2semantic.tsv").write_text("item_name\tsemantic_audio\n" + "\n".join(codes), encoding="utf-8")
    return folder


def split(found):
    rows = list(found)
    return [row for row in rows if isinstance(row, ExperimentRow)], [row for row in rows if isinstance(row, Rejected)]


@pytest.fixture
def folder(tmp_path):
    return upstream_folder(tmp_path / "logs")


def only_fault(folder, version="v2", **kwargs):
    rows, faults = split(read_experiment(folder, version))
    assert len(rows) == 1
    assert len(faults) == 1
    return faults[0]


@pytest.mark.parametrize("features", [torch.float16, torch.float32])
def test_every_feature_is_read(tmp_path, features):
    folder = upstream_folder(tmp_path / "logs", features=features)
    rows, faults = split(read_experiment(folder, "v2Pro"))
    assert not faults
    first, second = rows
    assert [row.language for row in rows] == ["zh", "en"]
    assert first.phonemes.tolist() == [symbol_table("v2").ids[phone] for phone in CHINESE[1].split()]
    assert first.word2ph == (2, 2, 1)
    assert second.word2ph is None
    stored = torch.load(folder / "3-bert" / "a.wav.pt", weights_only=True)
    assert torch.equal(first.bert, stored.T.half())
    assert second.bert is None
    ssl = torch.load(folder / "4-cnhubert" / "b.wav.pt", weights_only=True).detach()
    assert torch.equal(second.ssl, ssl[0].T.half())
    assert not second.ssl.requires_grad
    assert first.speaker_vector.shape == (20480,)
    assert np.array_equal(first.wave, soundfile.read(folder / "5-wav32k" / "a.wav", dtype="int16")[0])
    assert first.codes.tolist() == [(7 * i + len(CHINESE[1])) % 1024 for i in range(TOKENS)]
    assert first.seconds == 1.0


def test_a_round_trip_through_our_own_folder(folder, tmp_path):
    rows, _ = split(read_experiment(folder, "v2Pro"))
    columns = [row.columns() for row in rows]
    assert write_experiment(tmp_path / "out", columns, "v2Pro") == 2
    again, faults = split(read_experiment(tmp_path / "out", "v2Pro"))
    assert not faults
    for row, before in zip((each.columns() for each in again), columns, strict=True):
        for name in set(before) - {"id", "origin"}:
            assert np.array_equal(row[name], before[name]), name
    assert Experiment.detect(tmp_path / "out") is not None


def test_what_upstream_reads(folder, tmp_path):
    columns = [row.columns() for row in split(read_experiment(folder, "v2Pro"))[0]]
    out = tmp_path / "out"
    write_experiment(out, columns, "v2Pro")
    name = f"{columns[0]['id']}.wav"
    lines = (out / "2-name2text.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == [name, *CHINESE[1:]]
    assert lines[1].split("\t")[2] == "None"
    table = (out / "6-name2semantic.tsv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "item_name\tsemantic_audio"
    assert len(table[1].split("\t")[1].split(" ")) == TOKENS
    shapes = {
        part: torch.load(out / part / f"{name}.pt", weights_only=True) for part in ("3-bert", "4-cnhubert", "7-sv_cn")
    }
    assert {part: tuple(each.shape) for part, each in shapes.items()} == {
        "3-bert": (1024, 5),
        "4-cnhubert": (1, 768, FRAMES),
        "7-sv_cn": (1, 20480),
    }
    assert shapes["4-cnhubert"].dtype == shapes["3-bert"].dtype == torch.float16
    info = soundfile.info(out / "5-wav32k" / name)
    assert (info.samplerate, info.channels, info.subtype, info.format) == (32_000, 1, "PCM_16", "WAV")
    assert not (out / "3-bert" / f"{columns[1]['id']}.wav.pt").exists()


def test_a_prepared_set_becomes_a_folder(folder, tmp_path):
    columns = [row.columns() for row in split(read_experiment(folder, "v2"))[0]]
    store = GptSovitsEncoder(version="v2").store(tmp_path / "set")
    shard = store.write("0" * 32, columns, account={})
    store.finish([shard], settings={"version": "v2"}, report={})
    assert write_prepared(tmp_path / "out", tmp_path / "set") == 2
    again, _ = split(read_experiment(tmp_path / "out", "v2"))
    assert all(np.array_equal(row.codes, before["codes"]) for row, before in zip(again, columns, strict=True))
    assert torch.equal(again[0].bert, torch.from_numpy(columns[0]["bert"]).view(-1, 1024))
    assert again[1].bert is None


def test_two_clips_of_one_name_both_live(folder, tmp_path):
    first, second = (row.columns() for row in split(read_experiment(folder, "v2"))[0])
    rows = [{**first, "origin": "one/a.wav"}, {**second, "origin": "two/a.wav"}]
    assert write_experiment(tmp_path / "out", rows, "v2") == 2
    assert len(list((tmp_path / "out" / "5-wav32k").iterdir())) == 2
    with pytest.raises(DataError, match="stands twice"):
        write_experiment(tmp_path / "twice", [first, first], "v2")


def test_one_name_for_two_texts_is_refused_on_the_way_in(tmp_path):
    folder = upstream_folder(tmp_path / "logs")
    lines = (folder / "2-name2text.txt").read_text(encoding="utf-8")
    with (folder / "2-name2text.txt").open("a", encoding="utf-8") as file:
        file.write("\t".join(("a.wav", *ENGLISH[1:])) + "\n")
    rows, faults = split(read_experiment(folder, "v2"))
    assert [row.name for row in rows] == ["b.wav"]
    assert [(row.reason, row.origin) for row in faults] == [
        ("conflict", "2-name2text.txt:1"),
        ("conflict", "2-name2text.txt:3"),
    ]
    (folder / "2-name2text.txt").write_text(lines + lines, encoding="utf-8")
    rows, faults = split(read_experiment(folder, "v2"))
    assert [row.reason for row in faults] == ["duplicate", "duplicate"]
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("missing", "version", "reason"),
    [
        ("5-wav32k/a.wav", "v2", "missing"),
        ("3-bert/a.wav.pt", "v2", "missing_features"),
        ("7-sv_cn/a.wav.pt", "v2Pro", "missing_features"),
    ],
)
def test_what_is_missing_costs_the_row(folder, missing, version, reason):
    (folder / missing).unlink()
    fault = only_fault(folder, version)
    assert fault.reason == reason
    assert missing.partition("/")[2] in fault.detail


def test_tokens_are_needed_and_speech_features_are_not(folder):
    for path in (folder / "4-cnhubert").iterdir():
        path.unlink()
    rows, faults = split(read_experiment(folder, "v2"))
    assert len(rows) == 2
    assert rows[0].ssl is None
    assert not faults
    table = folder / "6-name2semantic.tsv"
    table.write_text(table.read_text().replace("a.wav\t", "c.wav\t"))
    assert only_fault(folder).reason == "missing_features"


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("3-bert", torch.zeros(1024, 4)),
        ("3-bert", torch.full((1024, 5), torch.nan)),
        ("4-cnhubert", torch.zeros(1, 768, 60)),
        ("4-cnhubert", torch.zeros(768, FRAMES)),
        ("4-cnhubert", torch.zeros(1, 768, FRAMES, dtype=torch.int64)),
    ],
)
def test_features_that_do_not_fit(folder, part, tensor):
    torch.save(tensor, folder / part / "a.wav.pt")
    assert only_fault(folder).reason == "bad_features"


def test_audio_that_does_not_fit(folder):
    soundfile.write(folder / "5-wav32k" / "a.wav", np.zeros(SAMPLES, np.int16), 16_000)
    assert "16000" in only_fault(folder).detail
    soundfile.write(folder / "5-wav32k" / "a.wav", np.zeros(2 * SAMPLES, np.int16), 32_000)
    assert only_fault(folder).detail == "24 tokens for 2.00 s of audio"
    (folder / "5-wav32k" / "a.wav").write_bytes(b"RIFF nothing")
    assert only_fault(folder).reason == "decode_error"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("a.wav", "n i3 qqq", "None", "x"), "unknown_phone"),
        (("a.wav", "HH UNK", "None", "x"), "unknown_phone"),
        (("a.wav", "n i3 h ao3", "[2, 2, 1]", "你好,"), "bad_row"),
        (("a.wav", "n i3", "__import__('os').system('true')", "你"), "bad_row"),
        (("../a.wav", "n i3", "[2]", "你"), "outside_root"),
        (("a.wav", "n i3", "[2]"), "bad_row"),
        (("a.wav", "", "None", ""), "missing_features"),
    ],
)
def test_rows_that_cannot_be_used(folder, row, reason):
    (folder / "2-name2text.txt").write_text("\t".join(row) + "\n" + "\t".join(ENGLISH) + "\n", encoding="utf-8")
    assert only_fault(folder).reason == reason


def test_phones_that_only_later_versions_have(folder):
    (folder / "2-name2text.txt").write_text("a.wav\tYg Yau2\tNone\tx\n", encoding="utf-8")
    assert split(read_experiment(folder, "v1"))[1][0].reason == "unknown_phone"
    rows, _ = split(read_experiment(folder, "v2")) if "Yg" in symbol_table("v2").ids else ([], [])
    assert all(row.language == "yue" for row in rows)


def test_a_feature_that_could_run_code_stops_the_reading(folder):
    torch.save({"a": print}, folder / "4-cnhubert" / "a.wav.pt")
    with pytest.raises(UnsafeFileError, match=r"a\.wav\.pt"):
        list(read_experiment(folder, "v2"))


def test_parts_that_are_not_merged_yet(folder):
    names = (folder / "2-name2text.txt").read_text(encoding="utf-8").splitlines()
    codes = (folder / "6-name2semantic.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for number in range(2):
        (folder / f"2-name2text-{number}.txt").write_text(names[number] + "\n", encoding="utf-8")
        (folder / f"6-name2semantic-{number}.tsv").write_text(codes[number], encoding="utf-8")
    (folder / "2-name2text.txt").unlink()
    (folder / "6-name2semantic.tsv").unlink()
    rows, faults = split(read_experiment(folder, "v2"))
    assert [row.origin for row in rows] == ["2-name2text-0.txt:1", "2-name2text-1.txt:1"]
    assert not faults
    (folder / "6-name2semantic-1.tsv").unlink()
    (folder / "6-name2semantic-0.tsv").unlink()
    with pytest.raises(DataError, match=r"holds no 6-name2semantic\.tsv"):
        list(read_experiment(folder, "v2"))


def test_only_our_own_folder_is_written_again(folder, tmp_path):
    columns = [row.columns() for row in split(read_experiment(folder, "v2"))[0]]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="holds something already"):
        write_experiment(folder, columns, "v2")
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for count in (2, 1):
        assert write_experiment(tmp_path / "out", columns[:count], "v2") == count
        assert len(list((tmp_path / "out" / "4-cnhubert").iterdir())) == count


def test_rows_without_what_upstream_needs(folder, tmp_path):
    columns = split(read_experiment(folder, "v2"))[0][0].columns()
    with pytest.raises(DataError, match="--keep_ssl"):
        write_experiment(tmp_path / "a", [{**columns, "ssl": None}], "v2")
    with pytest.raises(DataError, match="no speaker vector"):
        write_experiment(tmp_path / "b", [columns], "v2Pro")
    assert not (tmp_path / "a" / "2-name2text.txt").exists()


def test_the_language_of_phones():
    table = symbol_table("v2").symbols
    korean = [phone for phone in table if language_of([phone]) == "ko"]
    cantonese = [phone for phone in table if language_of([phone]) == "yue"]
    assert set(korean) | set(cantonese) == set(table) - set(symbol_table("v1").symbols) - {"[", "]", "空", "停"}
    assert language_of(["HH", "AH0"]) == "en"
    assert language_of(["k", "o", "N", "n", "i", "ch", "i", "w", "a"]) == "ja"
    assert language_of(["AA", "a1", "EE", "En2"]) == "zh"
    assert language_of([",", "."]) is None


@pytest.mark.parametrize("text", ["[1, -1]", "[true]", "(1, 2)", "[1.0]", "[" * 9999, "[1,", "none"])
def test_counts_are_never_evaluated(text):
    with pytest.raises(ValueError, match="counts"):
        parse_counts(text)


def test_tokens_tell_the_file_they_were_made_by(folder):
    rows, _ = split(read_experiment(folder, "v2"))
    tokens = SemanticTokens.load("tiny")
    assert token_agreement(rows, tokens) < 0.1
    own = [replace(row, codes=tokens.encode([row.ssl])[0].numpy().astype(np.int32)) for row in rows]
    assert token_agreement(own, tokens) == 1.0
    assert token_agreement([replace(row, ssl=None) for row in rows], tokens) is None
