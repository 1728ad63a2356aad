"""Training Qwen3-TTS by its commands: methods, starts, voices, and what is refused before any step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.qwen3_tts.recordings import fit, prepare, texts, write_rows, write_tone
from tests.qwen3_tts.released import write_released
from tts_train.cli import main
from tts_train.contract import open_checkpoint
from tts_train.datasets.store.shards import PreparedSet
from tts_train.families.token_lm.network.build import build_network
from tts_train.families.token_lm.network.restore import load_initial
from tts_train.families.token_lm.network.start import load_base
from tts_train.families.token_lm.speaking.sources import open_model
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.stage import Qwen3TTSData, Qwen3TTSModule

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("qwen3")


@pytest.fixture(scope="module")
def corpus(home):
    rows = texts(6)
    for number, row in enumerate(rows):
        row |= {"speaker": ("Anna", "ben", "Cleo")[number % 3], "instruct": ("Slowly.", "In a hurry.")[number % 2]}
    return write_rows(home / "tones", rows)


@pytest.fixture(scope="module")
def prepared(home, corpus):
    assert prepare(corpus, home / "prepared") == 0
    return home / "prepared"


@pytest.fixture(scope="module")
def base(home):
    return write_released(home / "base", shape="r17", kind="base")


@pytest.fixture(scope="module")
def of_base(home, corpus, base):
    """The corpus prepared with the tokenizer, the codec and the speaker encoder of a released base."""
    words = ["--codec", str(base), "--tokenizer", str(base)]
    assert prepare(corpus, home / "of_base", *words) == 0
    return home / "of_base"


def losses(run, name="train/loss"):
    lines = (run / "logs" / "metrics.jsonl").read_text().splitlines()
    return [line["value"] for line in map(json.loads, lines) if line["name"] == name]


def said(source, out, *words):
    """The bytes of a sound file that a model speaks."""
    given = [
        "synth",
        str(source),
        "--text",
        "Hello.",
        "--out",
        str(out),
        "--max_new_tokens",
        "160",
        "--backend",
        "qwen3_tts",
        *words,
    ]
    assert main(given) == 0
    return out.read_bytes()


def shown(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_speakers_are_known_by_the_mean_of_their_voices(prepared):
    data = Qwen3TTSData(path=str(prepared))
    names, means, own = data.voices()
    assert (names, own) == (["anna", "ben", "cleo"], None)
    _, same, own = Qwen3TTSData(path=str(prepared), voice="clip").voices()
    assert torch.equal(means, same)
    assert own.shape == (6, 64)
    speakers = [name.lower() for name in PreparedSet(prepared).rows.column("speaker").to_pylist()]
    for place, name in enumerate(names):
        chosen = own[[number for number, other in enumerate(speakers) if other == name]]
        torch.testing.assert_close(means[place], chosen.mean(dim=0))


def test_clips_have_their_own_voice_and_it_is_in_no_checkpoint(prepared, tmp_path):
    assert fit(prepared, tmp_path / "run", "--data.voice", "clip") == 0
    assert fit(prepared, tmp_path / "run", "--data.voice", "clip", "--trainer.max_steps", "3") == 0
    weights = open_checkpoint(tmp_path / "run").weights()
    assert weights["network.lm.voices"].shape == (3, 64)
    assert not [name for name in weights if "own_voices" in name]
    assert said(tmp_path / "run", tmp_path / "a.wav", "--speaker", "CLEO")


@pytest.mark.parametrize("voice", ["speaker", "clip"])
def test_a_validation_set_of_other_voices_is_refused(voice, prepared, tmp_path, capsys):
    assert prepare(write_rows(tmp_path / "corpus", texts(2, speaker="dora")), tmp_path / "other") == 0
    other = tmp_path / "other" if voice == "speaker" else prepared
    assert fit(prepared, tmp_path / "run", "--data.val_path", str(other), "--data.voice", voice) == 2
    assert "Prepare both as one corpus and use --data.val_share" in shown(capsys)
    if voice == "speaker":
        assert fit(prepared, tmp_path / "run", "--data.val_path", str(prepared)) == 0


def test_a_validation_set_with_voices_beside_rows_without_is_refused(prepared, tmp_path, capsys):
    corpus = write_rows(tmp_path / "corpus", texts(2))
    assert prepare(corpus, tmp_path / "none", "--voice_prefix", "never") == 0
    assert fit(tmp_path / "none", tmp_path / "run", "--data.val_path", str(prepared)) == 2
    assert "the model is given those of" in shown(capsys)


def test_a_speaker_without_a_voice_is_told_of(tmp_path, capsys):
    corpus = write_rows(tmp_path / "corpus", texts(2, speaker="Anna"))
    for number in range(2):
        write_tone(corpus.parent / f"{number}.wav", 0.6)
    assert prepare(corpus, tmp_path / "prepared") == 0
    assert fit(tmp_path / "prepared", tmp_path / "run") == 2
    told = shown(capsys)
    assert "No voice is known of anna" in told
    assert "no recording of 1 s or more" in told


def test_voices_of_another_width_are_refused(prepared, tmp_path, capsys):
    small = write_released(tmp_path / "small", shape="r06")
    assert fit(prepared, tmp_path / "run", init_from=small) == 2
    assert "voices of 64 numbers, and this model takes 32" in shown(capsys)


@pytest.mark.slow
def test_speakers_that_the_base_does_not_know_are_refused(tmp_path, base, capsys):
    model = write_released(tmp_path / "model", shape="r17", kind="custom_voice")
    words = ["--codec", str(model), "--tokenizer", str(model), "--speaker_encoder", "none"]
    assert prepare(write_rows(tmp_path / "corpus", texts(4, speaker="Ryan")), tmp_path / "prepared", *words) == 0
    assert fit(tmp_path / "prepared", tmp_path / "wrong", init_from=base) == 2
    assert "Train from that model, or prepare again" in shown(capsys)
    assert fit(tmp_path / "prepared", tmp_path / "run", "--model.method", "lora", init_from=model) == 0
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "run"), "--format", "custom_voice", "--out", str(out)]) == 0
    for source in (out, tmp_path / "run"):
        assert said(source, tmp_path / "a.wav", "--speaker", "Ryan")
    assert main(["export", str(tmp_path / "run"), "--format", "base", "--out", str(tmp_path / "no")]) == 2
    assert "no speaker encoder" in shown(capsys)


def test_parts_can_be_frozen(prepared, tmp_path):
    frozen = "[text_embedding,text_projection,talker]"
    assert fit(prepared, tmp_path / "run", "--model.frozen", frozen, "--trainer.max_steps", "1") == 0
    module = Qwen3TTSModule(init_from="tiny")
    start = open_model(QWEN3_TTS, tmp_path / "run", device=torch.device("cpu"), dtype=torch.float32).lm
    first = dict(load_base(QWEN3_TTS, module.init_from).named_parameters())
    changed = {name for name, weight in start.named_parameters() if not torch.equal(weight, first[name])}
    held = ("talker.model.text_embedding", "talker.text_projection", "talker.model.layers", "speaker_encoder")
    assert not [name for name in changed if name.startswith(held)]
    assert {name.split(".")[1] for name in changed} == {"code_predictor", "codec_head", "model"}


def test_nothing_to_train_is_told_of(prepared, tmp_path, capsys):
    frozen = "[text_embedding,text_projection,talker,code_predictor]"
    assert fit(prepared, tmp_path / "run", "--model.method", "lora", "--model.frozen", frozen) == 2
    assert "frozen" in shown(capsys)


def test_two_instructions_give_two_losses(base, tmp_path):
    rows = [{"audio": f"{number}.wav", "text": "One and the same."} for number in range(2)]
    for row, asked in zip(rows, ("Slowly.", "In a hurry."), strict=True):
        row |= {"instruct": asked, "audio_codes": np.arange(8 * 16).reshape(8, 16).tolist()}
    corpus = write_rows(tmp_path / "corpus", rows)
    assert prepare(corpus, tmp_path / "prepared", "--voice_prefix", "never") == 0
    network = build_network(load_initial(QWEN3_TTS, str(base)), QWEN3_TTS.layout)
    data = Qwen3TTSData(path=str(tmp_path / "prepared"), val_share=0.0)
    data.setup("fit")
    batches = [data.collate([data.train_set[number]]) for number in (0, 1)]
    assert torch.equal(batches[0]["codes"], batches[1]["codes"])
    with torch.no_grad():
        slow, fast = (float(network(batch).loss_sum) for batch in batches)
    assert abs(slow - fast) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--model.method", "lora"],
        ["--model.method", "qlora"],
        ["--model.method", "lora-8bit"],
        ["--trainer.precision", "bf16-true", "--model.optimizer.rounding", "stochastic"],
    ],
    ids=lambda words: words[1],
)
def test_a_released_base_is_trained_continued_and_exported(words, base, of_base, tmp_path):
    run = tmp_path / "run"
    given = [*words, "--trainer.log_every_n_steps", "1"]
    assert fit(of_base, run, *given, "--trainer.max_steps", "3", init_from=base) == 0
    assert fit(of_base, run, *given, "--trainer.max_steps", "5", init_from=base) == 0
    assert len(losses(run)) == 5
    assert losses(run, "val/loss")[-1] < losses(run, "val/loss")[0]
    assert (run / "report.html").is_file()
    assert main(["export", str(run), "--format", "custom_voice", "--out", str(tmp_path / "voice")]) == 0
    for source in (run, tmp_path / "voice"):
        assert said(source, tmp_path / "a.wav", "--speaker", "Anna")


@pytest.mark.slow
def test_a_run_is_heard_and_evaluated(prepared, corpus, tmp_path):
    run = tmp_path / "run"
    heard = ["--listen.max_share", "1", "--listen.metrics", "[clipping]", "--listen.sentences", "1"]
    assert fit(prepared, run, *heard, "--trainer.max_steps", "1") == 0
    assert list((run / "samples").rglob("*.wav"))
    words = ["--data", str(corpus), "--sentences", "2", "--metrics", "clipping", "--max_new_tokens", "160"]
    assert main(["eval", str(run), *words, "--split", "all", "--out", str(tmp_path / "eval")]) == 0
    assert list((tmp_path / "eval").rglob("*.wav"))


@pytest.mark.slow
def test_a_run_starts_from_a_run_and_from_an_export(base, of_base, tmp_path):
    first, each = tmp_path / "first", ["--trainer.log_every_n_steps", "1"]
    assert fit(of_base, first, "--model.method", "lora", *each, init_from=base) == 0
    assert main(["export", str(first), "--format", "custom_voice", "--out", str(tmp_path / "voice")]) == 0
    begins = []
    for number, (start, method) in enumerate(((first, "full"), (first, "lora"), (tmp_path / "voice", "lora"))):
        run = tmp_path / f"{number}"
        assert fit(of_base, run, "--model.method", method, *each, init_from=start) == 0
        begins.append(losses(run)[0])
        assert said(run, tmp_path / "a.wav", "--speaker", "ben")
    # From the same weights, but for what the export rounds.
    assert begins == pytest.approx([begins[0]] * 3, abs=0.02)
    assert abs(losses(first)[0] - begins[0]) > 0.02
    more = ["--trainer.max_steps", "3"]
    assert fit(of_base, tmp_path / "1", "--model.method", "lora", *each, *more, init_from=first) == 0
    assert main(["export", str(tmp_path / "1"), "--format", "base", "--out", str(tmp_path / "base")]) == 0
