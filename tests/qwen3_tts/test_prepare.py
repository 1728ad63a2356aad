"""Preparing for Qwen3-TTS: upstream's files, voices, codes in place of recordings."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from tests.qwen3_tts.recordings import dropped, prepare, prepared_rows, texts, write_rows, write_tone
from tests.qwen3_tts.released import SPEAKERS, model_config, tokenizer_files
from tts_train.cli import main
from tts_train.contract import Census, Clip
from tts_train.corpus import Utterance, read_audio
from tts_train.datasets.store.shards import PreparedSet, read_index
from tts_train_qwen3_tts.encode import Qwen3TTSEncoder
from tts_train_qwen3_tts.jobs import Qwen3TTSPrepare
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.networks.speaker import embed
from tts_train_qwen3_tts.networks.speaker_files import load_speaker_encoder
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Upstream's ``train_raw.jsonl``, prepared: each row has a reference, two rows one and the same."""
    home = tmp_path_factory.mktemp("raw")
    rows = texts(4)
    for number, row in enumerate(rows):
        row["ref_audio"] = f"{number // 2}.wav"
    assert prepare(write_rows(home / "corpus", rows), home / "prepared") == 0
    return home


def codes_of(row):
    ids = np.asarray(row["input_ids"])
    return np.stack(LAYOUT.tokens_to_codes(ids[LAYOUT.slot_of(ids) >= 0]), axis=1)


def positions(row):
    """The positions before the sound: ids that are no text, and what they stand for."""
    return [index for index in row["input_ids"][: row["prompt_tokens"]] if index >= LAYOUT.rows_base]


def test_references_are_the_voices(raw):
    rows = prepared_rows(raw / "prepared")
    encoder = load_speaker_encoder("tiny")
    for text, row in rows.items():
        sound = read_audio(raw / "corpus" / f"{int(text[-2]) // 2}.wav", sample_rate=24_000).samples
        assert np.array_equal(embed(encoder, torch.from_numpy(sound)).numpy(), np.float32(row["voice"]))
        assert LAYOUT.voice_base in row["input_ids"]
    assert read_index(raw / "prepared")["settings"]["voices"] == [""]


def test_codes_stand_for_recordings(raw, tmp_path):
    """Upstream's ``train_with_codes.jsonl`` gives the rows of the recordings, which need not be there."""
    made = prepared_rows(raw / "prepared")
    rows = [
        {
            "audio": f"{number}.wav",
            "text": text,
            "ref_audio": f"{number // 2}.wav",
            "audio_codes": codes_of(row).tolist(),
        }
        for number, (text, row) in enumerate(made.items())
    ]
    corpus = write_rows(tmp_path / "corpus", rows, name="train_with_codes.jsonl")
    for number in (0, 1):
        (corpus.parent / f"{number}.wav").write_bytes((raw / "corpus" / f"{number}.wav").read_bytes())
    assert prepare(corpus, tmp_path / "out") == 0
    for text, row in prepared_rows(tmp_path / "out").items():
        other = {**made[text], "id": row["id"], "origin": row["origin"], "seconds": row["frames"] * 0.08}
        assert row == other


def test_codes_of_another_codec_are_told_of(tmp_path):
    codes = np.arange(20 * 16).reshape(20, 16)
    rows = texts(3)
    for row, given in zip(rows, (codes, codes[:, :8], codes + 1800), strict=True):
        row["audio_codes"] = given.tolist()
    corpus = write_rows(tmp_path / "corpus", rows)
    assert prepare(corpus, tmp_path / "out", "--max_dropped", "1") == 0
    (kept,) = prepared_rows(tmp_path / "out").values()
    # Neither a recording nor a reference: there is nothing to take the voice from.
    assert (kept["frames"], kept["voice"]) == (20, None)
    assert Counter(row["reason"] for row in dropped(tmp_path / "out")) == {"bad_codes": 2}
    details = [row["detail"] for row in dropped(tmp_path / "out")]
    assert "frames of 8 codes up to 311; those of Qwen3-TTS have 16, each below 2048" in details


def test_many_clips_at_once_are_encoded_as_each_alone(raw):
    fields = {"codec": "tiny", "tokenizer": "tiny", "speaker_encoder": "tiny", "voices": ("",)}
    encoder = Qwen3TTSEncoder(token_lm=QWEN3_TTS, dedup=False, **fields)
    sounds = [read_audio(raw / "corpus" / f"{number}.wav", sample_rate=24_000) for number in range(4)]
    clips = [
        Clip(Utterance(str(number), raw, f"Number {number}."), None, sound, sounds[0] if number == 2 else None)
        for number, sound in enumerate(sounds)
    ]
    together = list(encoder.encode(clips, "cpu"))
    alone = [row for clip in clips for row in encoder.encode([clip], "cpu")]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one["input_ids"], other["input_ids"])
        assert one["voice"] == other["voice"]
    assert together[2]["voice"] == together[0]["voice"] != together[3]["voice"]


def test_the_window_of_the_codec_reaches_codes_and_fingerprint(tmp_path):
    corpus = write_rows(tmp_path / "corpus", [{"audio": "long.wav", "text": "A long sentence of many words. " * 6}])
    write_tone(tmp_path / "corpus" / "long.wav", 12.0)
    for window in ("off", "on"):
        assert prepare(corpus, tmp_path / window, "--codec_window", window) == 0
    off, on = (next(iter(prepared_rows(tmp_path / window).values())) for window in ("off", "on"))
    assert off["frames"] == on["frames"] == 150
    same = (codes_of(off) == codes_of(on)).all(axis=1)
    # The transformer reaches back 10 s.
    assert same[:125].all()
    assert not same[125:].all()
    prints = [read_index(tmp_path / window)["settings"]["codec_fingerprint"] for window in ("off", "on")]
    assert prints[0] != prints[1]


def test_names_differ_by_more_than_capitals(tmp_path):
    rows = texts(5)
    for row, name in zip(rows, ("Anna", "anna", "BEN", None, "cléo"), strict=True):
        row |= {"speaker": name} if name else {}
    assert prepare(write_rows(tmp_path / "corpus", rows), tmp_path / "out") == 0
    assert read_index(tmp_path / "out")["settings"]["voices"] == ["", "anna", "ben", "cléo"]
    placed = [positions(row)[3] - LAYOUT.voice_base for row in prepared_rows(tmp_path / "out").values()]
    assert placed == [1, 1, 2, 0, 3]


def custom_voice(folder):
    """What prepare reads of a model that knows speakers by name."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(model_config("r06", "custom_voice")))
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_speakers_that_the_model_knows_need_no_voice(tmp_path):
    rows = texts(3, language="zh")
    for row, name in zip(rows, ("Ryan", "dylan", None), strict=True):
        row |= {"speaker": name, "ref_audio": "none.wav"} if name else {}
    corpus = write_rows(tmp_path / "corpus", rows)
    (tmp_path / "corpus" / "none.wav").unlink()
    model = str(custom_voice(tmp_path / "model"))
    assert prepare(corpus, tmp_path / "out", "--tokenizer", model, "--speaker_encoder", "none") == 0
    ryan, dylan, nobody = (positions(row) for row in prepared_rows(tmp_path / "out").values())
    item = LAYOUT.item
    assert ryan[1:5] == [item(2156), item(2055), item(2157), item(SPEAKERS["ryan"][0])]
    # A dialect's tag takes the place of Chinese.
    assert dylan[1:5] == [item(2156), item(2074), item(2157), item(SPEAKERS["dylan"][0])]
    assert item(2157) in nobody
    assert not set(nobody) & {item(row) for row, _ in SPEAKERS.values()}
    assert "voice" not in PreparedSet(tmp_path / "out").rows.names
    assert read_index(tmp_path / "out")["settings"]["known"] == {name: item(row) for name, (row, _) in SPEAKERS.items()}


def test_a_model_that_knows_no_speaker_is_told_of(tmp_path, capsys):
    corpus = write_rows(tmp_path / "corpus", texts(1, speaker="ryan"))
    assert prepare(corpus, tmp_path / "out", "--speaker_encoder", "none") == 2
    assert "tiny knows none by name. Leave --speaker_encoder at auto" in capsys.readouterr().err


def test_without_speakers_there_is_the_instruction_alone(tmp_path, capsys):
    rows = texts(2, speaker="ryan", instruct="A low voice.")
    rows[1] |= {"speaker": "ben", "instruct": "A shrill voice."}
    assert prepare(write_rows(tmp_path / "corpus", rows), tmp_path / "out", "--voice_prefix", "never") == 0
    assert "only instructions tell them apart" in capsys.readouterr().err
    low, shrill = prepared_rows(tmp_path / "out").values()
    words = QWEN3_TTS.load_tokenizer("tiny")
    assert low["input_ids"] != shrill["input_ids"]
    for row, instruct in ((low, "A low voice."), (shrill, "A shrill voice.")):
        asked = words.encode(f"<|im_start|>user\n{instruct}<|im_end|>\n", add_special_tokens=False)
        assert row["input_ids"][: len(asked)] == asked
        ids = Qwen3TTSPrompt().encode_line(words, row["text"], instruct=instruct)
        assert row["input_ids"][: row["prompt_tokens"]] == Qwen3TTSPrompt().inference_prompt(ids).tolist()
        assert max(positions(row)) < LAYOUT.voice_base
    assert "voice" not in low


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "bad_reference: A reference has 0.20 s, and a voice is taken from 1 s or more."), (120.0, None)],
)
def test_short_references_cost_a_row_and_long_ones_are_cut(seconds, told, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    rows = [*texts(3, ref_audio="1.wav"), {"audio": "4.wav", "text": "The fourth.", "ref_audio": "other.wav"}]
    corpus = write_rows(tmp_path / "corpus", rows)
    write_tone(tmp_path / "corpus" / "other.wav", seconds)
    assert prepare(corpus, tmp_path / "out", "--max_dropped", "1") == 0
    reasons = [f"{row['reason']}: {row['detail']}" for row in dropped(tmp_path / "out")]
    assert len(reasons) == (told is not None)
    assert all(reason.startswith(told) for reason in reasons)
    assert ("A reference of 120.0 s: its first 30 s are read." in caplog.text) == (told is None)
    # The check has no networks, and says the same.
    words = ["check", str(corpus), "--backend", "qwen3_tts", "--max_dropped", "0.1"]
    assert main(words) == (0 if told is None else 2)
    assert ("bad_reference: 1." in capsys.readouterr().err) == (told is not None)


def test_a_row_that_names_control_tokens_is_left_out(tmp_path):
    rows = texts(3)
    rows[1]["text"] = "Say <|im_end|> now."
    rows[2]["text"] = "\nIt begins with a newline."
    assert prepare(write_rows(tmp_path / "corpus", rows), tmp_path / "out", "--max_dropped", "1") == 0
    (row,) = dropped(tmp_path / "out")
    assert "names control tokens" in row["detail"]
    assert "It begins with a newline." in prepared_rows(tmp_path / "out")


def test_five_hundred_speakers_are_a_few_kilobytes(tmp_path):
    census = Census(500, 0, Counter(f"Speaker {number}" for number in range(500)), Counter())
    job = Qwen3TTSPrepare(corpus=tmp_path, out=tmp_path / "out", codec="tiny", tokenizer="tiny")
    made = job.encoder(census, "cpu")
    assert len(made.voices) == 500
    assert len(json.dumps(made.fingerprint())) < 10_000
