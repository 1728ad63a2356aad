"""Prepare: recordings in several languages to one set for every stage; every row accounted for."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile

from tts_train.datasets.store.shards import PreparedSet, describe_prepared
from tts_train.demo.journey import VOICE
from tts_train.errors import DataError
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.preparing.encode import SAMPLE_RATE, SCHEMA
from tts_train_gpt_sovits.preparing.prepare import GptSovitsPrepare
from tts_train_gpt_sovits.text.reading import symbol_table

ROWS = (
    ("sample-01", "EN", "Good morning, and welcome to the workshop."),
    ("sample-02", "en", "A quick brown otter slid down the muddy bank."),
    ("sample-03", "", "Could you pass me the orange juice, please?"),
    ("sample-04", "fr", "Le gardien du phare peint toutes les portes."),
    ("sample-05", "en", "We measured the valley twice, just to be sure."),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for name, language, text in ROWS:
        shutil.copy(VOICE / "wavs" / f"{name}.flac", folder)
        lines.append(f"{name}.flac|her|{language}|{text}")
    (folder / "voice.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "voice.list"


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "prepared"
    report = prepare(corpus, out, version="v2Pro", keep_ssl=True, experiment=out.parent / "experiment")
    return report, PreparedSet(out, length_of="codes"), out


def prepare(corpus, out, **options):
    given = {"models": "tiny", "device": "cpu", "max_dropped": 0.5, "shard_rows": 2, **options}
    return GptSovitsPrepare(corpus=corpus, out=out, **given).run()


def test_every_row_is_kept_or_dropped_with_a_reason(made, corpus):
    report, data, out = made
    assert (report["rows"], report["kept"], report["dropped"]) == (5, 3, {"no_language": 1, "unknown_language": 1})
    assert report["languages"] == {"en": 3}
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    french = next(row for row in dropped if row["reason"] == "unknown_language")
    assert "fr" in french["detail"]
    assert "zh, en, ja, ko, yue" in french["detail"]
    assert describe_prepared(out)["kept"] == len(data) == 3


def test_a_row_has_what_every_stage_needs(made):
    _, data, _ = made
    assert set(SCHEMA.names) >= {"phonemes", "codes", "wave", "bert", "speaker_vector", "ssl"}
    row = data.row(0)
    symbols = symbol_table("v2Pro").symbols
    phones = [symbols[number] for number in row["phonemes"]]
    assert phones[:4] == ["G", "UH1", "D", "M"], "Good m…, as the dictionary says it"
    samples, rate = soundfile.read(VOICE / "wavs" / "sample-01.flac", dtype="float32")
    assert len(row["wave"]) == pytest.approx(len(samples) * SAMPLE_RATE / rate, abs=2)
    assert abs(len(row["codes"]) - 25 * len(samples) / rate) < 2
    assert len(row["ssl"]) // 768 // 2 == len(row["codes"])
    assert len(row["speaker_vector"]) == 20480
    assert row["bert"] is None, "English has no text features, which stands for zeros"


def test_tokens_are_those_of_the_features_kept(made):
    import torch

    _, data, _ = made
    tokens = SemanticTokens.load("tiny")
    assert data.settings["quantizer"] == tokens.fingerprint
    for number in range(len(data)):
        row = data.row(number)
        features = torch.from_numpy(np.array(row["ssl"], dtype=np.float32)).view(-1, 768)
        same = (tokens.encode([features])[0].numpy() == row["codes"]).mean()
        assert same >= 0.95, "half precision may move one that is near a border"


def test_the_same_command_again_computes_nothing_and_another_setting_does(made, corpus, tmp_path):
    report, _, out = made
    shutil.copytree(out, tmp_path / "copy")
    again = prepare(corpus, tmp_path / "copy", version="v2Pro", keep_ssl=True)
    assert (again["hash"], again["shards_written"]) == (report["hash"], 0)
    other = prepare(corpus, tmp_path / "copy", version="v2", language="en")
    assert other["kept"] == 4
    assert other["shards_reused"] == 0
    assert PreparedSet(tmp_path / "copy", length_of="codes").row(0)["speaker_vector"] is None


def test_an_experiment_folder_is_taken_over_whole(made, tmp_path):
    report, data, out = made
    experiment = out.parent / "experiment"
    assert report["clips"] == 3
    taken = prepare(experiment, tmp_path / "taken", version="v2Pro", keep_ssl=True)
    assert (taken["kept"], taken["dropped"]) == (3, {})
    other = PreparedSet(tmp_path / "taken", length_of="codes")
    for name in ("phonemes", "codes", "wave", "speaker_vector", "ssl"):
        ours = {row["norm_text"]: row[name].tolist() for row in map(data.row, range(3))}
        theirs = {row["norm_text"]: row[name].tolist() for row in map(other.row, range(3))}
        assert ours == theirs, name
    assert prepare(experiment, tmp_path / "taken", version="v2Pro", keep_ssl=True)["shards_written"] == 0


def test_refused_rows_of_an_experiment_folder_are_each_accounted_for(made, tmp_path):
    _, _, out = made
    experiment = tmp_path / "experiment"
    shutil.copytree(out.parent / "experiment", experiment)
    first, second = sorted((experiment / "5-wav32k").iterdir())[:2]
    first.unlink()
    sound = second.read_bytes()
    second.unlink()
    taken = prepare(experiment, tmp_path / "taken", version="v2Pro", shard_rows=1, max_dropped=0.9)
    assert (taken["rows"], taken["kept"], taken["dropped"]) == (3, 1, {"missing": 2})
    second.write_bytes(sound)
    taken = prepare(experiment, tmp_path / "taken", version="v2Pro", shard_rows=3, max_dropped=0.9)
    assert (taken["rows"], taken["kept"], taken["dropped"]) == (3, 2, {"missing": 1})
    table = experiment / "2-name2text.txt"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith(first.name)) + "\n", encoding="utf-8")
    taken = prepare(experiment, tmp_path / "taken", version="v2Pro", shard_rows=3, max_dropped=0.9)
    assert (taken["rows"], taken["kept"], taken["dropped"]) == (2, 2, {}), "not the account of before"


def test_tokens_of_another_base_are_refused(made, tmp_path):
    _, _, out = made
    experiment = tmp_path / "experiment"
    shutil.copytree(out.parent / "experiment", experiment)
    table = experiment / "6-name2semantic.tsv"
    head, *rows = table.read_text().splitlines()
    moved = [
        f"{name}\t{' '.join(str((int(code) + 1) % 1024) for code in codes.split())}"
        for name, codes in (row.split("\t") for row in rows)
    ]
    table.write_text("\n".join([head, *moved]) + "\n")
    with pytest.raises(DataError, match="--sovits"):
        prepare(experiment, tmp_path / "taken", version="v2Pro")


def test_chinese_gets_text_features_and_mixed_text_zeros_elsewhere(corpus, tmp_path):
    pytest.importorskip("pypinyin")
    pytest.importorskip("jieba")
    listing = corpus.parent / "zh.list"
    listing.write_text("sample-01.flac|her|zh|大家早上好，欢迎来到 workshop 参观。\n", encoding="utf-8")
    prepare(listing, tmp_path / "out")
    row = PreparedSet(tmp_path / "out", length_of="codes").row(0)
    features = np.array(row["bert"], dtype=np.float32).reshape(len(row["phonemes"]), 1024)
    silent = ~features.any(axis=1)
    symbols = symbol_table("v2").symbols
    english = [symbols[number] in {"W", "ER1", "K", "SH", "AA2", "P"} for number in row["phonemes"]]
    assert silent.tolist() == english
