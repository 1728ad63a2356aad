"""From recordings to files of upstream's and to sound, by the commands that users type."""

from __future__ import annotations

import json
import shutil

import pytest
import soundfile
import torch

from tts_train.cli import main
from tts_train.demo.journey import VOICE
from tts_train.recipes import find_recipe
from tts_train.weights import read_torch
from tts_train_gpt_sovits.released import read_s1, recognise

pytestmark = pytest.mark.timeout(900)

CLIPS = 10
REFERENCE = ("sample-07", "sample-06", "sample-05")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("journey")


@pytest.fixture(scope="module")
def prepared(folder):
    corpus = folder / "corpus"
    (corpus / "wavs").mkdir(parents=True)
    lines = (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()[:CLIPS]
    (corpus / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in lines:
        shutil.copy(VOICE / "wavs" / f"{line.split('|')[0]}.flac", corpus / "wavs")
    out = folder / "prepared"
    words = ["--corpus", corpus, "--out", out, "--models", "tiny", "--language", "en"]
    assert main(["prepare", "--backend", "gpt_sovits", *map(str, words)]) == 0, "no --stage: all share the job"
    return out


@pytest.fixture(scope="module")
def gpt(prepared, folder):
    return fitted("gpt", prepared, folder / "voice-gpt", "--trainer.max_steps", 4)


@pytest.fixture(scope="module")
def sovits(prepared, folder):
    words = ["--trainer.max_steps", 2, "--trainer.val_check_interval", 1, "--data.batch_size", 2]
    return fitted("sovits", prepared, folder / "voice-sovits", *words)


def fitted(stage, prepared, run, *words):
    recipe = ["-c", find_recipe("gpt_sovits", f"{stage}-tiny"), "--data.path", prepared, "--run_dir", run]
    assert main(["fit", *map(str, [*recipe, "--checkpoint.every_n_steps", 2, *words])]) == 0
    return run


def ran(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, *words):
    code = main([*map(str, words)])
    return code, capsys.readouterr().err


def test_a_gpt_file_for_upstream(gpt, folder, capsys):
    told = ran(capsys, "export", gpt, "--format", "s1", "--out", folder / "GPT_weights_v2")
    assert told["verified"] is True
    file = folder / "GPT_weights_v2" / told["files"][0]
    assert told["files"] == ["voice-gpt-e4.ckpt"], "named by the run and its epochs: three batches of each"
    content = read_torch(file)
    assert sorted(content) == ["config", "info", "weight"]
    assert {tensor.dtype for tensor in content["weight"].values()} == {torch.float16}
    assert content["config"]["data"]["max_sec"] == 54
    assert torch.load(file, weights_only=True)["info"] == "GPT-e4", "as upstream's inference reads it"
    assert recognise(file).kind == "s1"
    assert read_s1(file).config["model"]["phoneme_vocab_size"] == 732
    short = ran(capsys, "export", gpt, "--format", "s1", "--max_sec", 8, "--out", folder / "short.ckpt")
    told = read_torch(folder / "short.ckpt")["config"]["data"]["max_sec"]
    assert (short["verified"], 50 * told) == (True, 8 * 25), "upstream stops at 50 times this many codes, 25 a second"
    code, err = refused(capsys, "export", gpt, "--format", "s1", "--max_sec", 0, "--out", folder / "none.ckpt")
    assert (code, "--max_sec must be above 0 and at most 60" in err) == (2, True)


def test_a_sovits_file_for_upstream_and_one_to_train_on_from(sovits, prepared, folder, capsys, caplog):
    told = ran(capsys, "export", sovits, "--format", "s2", "--out", folder / "voice.pth")
    assert told["path"] == str(folder / "voice.pth"), "a name that ends in .pth is the file"
    assert "this one has 16: the file is for tts-train" in caplog.text
    dilations = read_torch(folder / "voice.pth")["config"]["model"]["resblock_dilation_sizes"]
    assert dilations == [[1, 3, 5]], "upstream reads three"
    assert not recognise(folder / "voice.pth").complete, "upstream's inference needs no posterior encoder"
    code, err = refused(capsys, "fit", *fit_words(prepared, folder / "again", folder / "voice.pth"))
    assert code == 2
    assert "--model.base_for_missing" in err

    full = ran(capsys, "export", sovits, "--format", "full", "--out", folder / "base")
    assert full["files"] == ["s2D.pth", "s2G.pth", "tts_train.json"]
    words = fit_words(prepared, folder / "again", folder / "base" / "s2G.pth")
    assert main(["fit", *words]) == 0, "what upstream's exports cannot: be trained on; s2D.pth beside it is found"


def fit_words(prepared, run, source):
    recipe = ["-c", find_recipe("gpt_sovits", "sovits-tiny"), "--data.path", prepared, "--data.batch_size", 2]
    return list(map(str, [*recipe, "--run_dir", run, "--model.init_from", source, "--trainer.max_steps", 1]))


@pytest.mark.slow
def test_both_runs_speak_together(gpt, sovits, folder, capsys, caplog):
    words = ["--text", "Good morning. It is 3.5 degrees.", "--max_new_tokens", 60, "--seed", 5]
    one = ran(capsys, "synth", gpt, "--sovits", sovits, *words, "--out", folder / "one.wav")
    assert one["sentences"] == 2
    assert one["language"] == "en"
    assert str(folder / "prepared") in one["reference"], "an utterance of the training data is continued"
    sound, rate = soundfile.read(folder / "one.wav")
    assert rate == 32_000
    assert len(sound) / rate == pytest.approx(one["seconds"], abs=1e-3)
    assert one["seconds"] == pytest.approx(one["tokens"] / 25 + 0.3, abs=0.05), "and a pause between sentences"
    two = ran(capsys, "synth", sovits, "--gpt", gpt, *words, "--out", folder / "two.wav")
    assert (folder / "one.wav").read_bytes() == (folder / "two.wav").read_bytes()
    assert two["report"], "what was spoken is kept with the run"
    other = ran(capsys, "synth", gpt, "--sovits", sovits, *words, "--seed", 6, "--out", folder / "three.wav")
    assert other["seed"] == 6
    assert (folder / "three.wav").read_bytes() != (folder / "one.wav").read_bytes()
    assert "trained on" not in caplog.text
    foreign = ["--text", "今天天气很好。", "--language", "zh", "--max_new_tokens", 20, "--out", folder / "five.mp3"]
    assert ran(capsys, "synth", gpt, "--sovits", sovits, *foreign)["language"] == "zh"
    assert "The voice was trained on en, and the text is read as zh" in caplog.text
    assert soundfile.info(folder / "five.mp3").format == "MP3"
    pair = ["synth", gpt, "--sovits", sovits, "--text", "Hello."]
    code, err = refused(capsys, *pair, "--speaker", "carol", "--out", folder / "six.wav")
    assert (code, "--speaker carol: the training data have" in err) == (2, True)
    code, err = refused(capsys, *pair, "--out", folder / "six.m4a")
    assert (code, ".wav, .flac, .mp3, .ogg, .opus" in err) == (2, True)


def test_files_of_anybody_speak_from_a_reference(gpt, sovits, folder, capsys):
    gpt_file = ran(capsys, "export", gpt, "--format", "s1", "--out", folder / "their.ckpt")["path"]
    sovits_file = ran(capsys, "export", sovits, "--format", "s2", "--out", folder / "their.pth")["path"]
    sounds = [soundfile.read(VOICE / "wavs" / f"{name}.flac", dtype="float32") for name in REFERENCE]
    joined = torch.cat([torch.from_numpy(sound) for sound, _ in sounds]).numpy()[: 5 * sounds[0][1]]
    soundfile.write(folder / "reference.wav", joined, sounds[0][1])
    voice = ["--reference", folder / "reference.wav", "--reference_text", "What she says."]
    rest = ["--models", "tiny", "--text", "Hello there.", "--max_new_tokens", 40, "--out", folder / "four.wav"]
    pair = ["synth", gpt_file, "--sovits", sovits_file, "--backend", "gpt_sovits"]
    told = ran(capsys, *pair, *voice, "--language", "en", *rest)
    assert told["reference"] == str(folder / "reference.wav")
    assert told["seconds"] > 0.1
    code, err = refused(capsys, *pair, *rest)
    assert (code, "--reference FILE.wav" in err) == (2, True), "a file does not say what it was trained on"
    code, err = refused(capsys, *pair, *voice, "--language", "fr", *rest)
    assert code == 2
    assert "zh, en, ja, ko, yue" in err
    code, err = refused(capsys, "synth", gpt_file, "--backend", "gpt_sovits", *voice, "--language", "en", *rest)
    assert code == 2
    assert "--sovits" in err


@pytest.mark.slow
def test_preferences_go_on_from_the_gpt(gpt, prepared, folder, capsys):
    words = ["--model.init_from", gpt, "--trainer.max_steps", 2]
    run = fitted("dpo", prepared, folder / "voice-dpo", *words)
    told = ran(capsys, "validate", "-c", run / "config.yaml", "--run_dir", run)
    assert {"val/loss", "val/preference", "val/pair_accuracy"} <= set(told)
    assert ran(capsys, "export", run, "--format", "s1", "--out", folder / "dpo")["verified"] is True
