"""Whisper as a recogniser, by faster-whisper itself and a model whose answer is known."""

from __future__ import annotations

import json
import math
import pickle
import shutil

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants

pytest.importorskip("faster_whisper", reason="NO WHISPER WAS TESTED: pip install 'tts-train[asr]'")

from tests.core.curation.recognition import bigram_whisper
from tests.core.curation.recognition.folders import by_name, transcribe
from tts_train.cli import main
from tts_train.contract.metric import Take
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.demo.journey import VOICE
from tts_train.scoring.metrics.words import Recognition
from tts_train.scoring.recognisers.batches import hear_many, is_doubtful
from tts_train.scoring.recognisers.models import WINDOW, Whispered, hear, load_whisper
from tts_train.scoring.recognisers.whisper import WhisperRecogniser
from tts_train.sound import read_sound
from tts_train.weights.hub import unreachable

SENTENCE = VOICE / "wavs" / "sample-17.flac"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bigram_whisper.write(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus/clips").mkdir(parents=True)
    samples, rate = soundfile.read(SENTENCE)
    for name, sound in {"said": samples, "german": samples[: 2 * rate], "silence": np.zeros(rate) + 0.002}.items():
        soundfile.write(tmp_path / f"corpus/clips/{name}.wav", sound, rate)
    found = CorpusFolder(tmp_path / "corpus")
    languages = {"said": None, "german": "de", "silence": None}
    found.write([ClipRow(audio=f"clips/{name}.wav", seconds=1.0, language=said) for name, said in languages.items()])
    return found


def test_whisper_writes_text_language_and_confidence(folder, model, capsys):
    told = transcribe(folder, capsys, "--model", str(model), "--second", "sphinx")
    rows = by_name(folder)
    assert told["recogniser"] == "whisper"
    assert told["languages"] == {"fr": 1, "de": 1}
    for name, language in {"said": "fr", "german": "de"}.items():
        assert (rows[name].text, rows[name].language) == (bigram_whisper.TEXT, language)
        assert rows[name].text_by == "recogniser whisper"
        assert rows[name].confidence == pytest.approx(bigram_whisper.PROBABILITY, abs=0.05)
        assert rows[name].facts["text_model"] == str(model)
        # sphinx knows English only, and is not asked about French and German.
        assert "hypotheses" not in rows[name].facts
    assert rows["said"].facts["language_confidence"] > 0.99
    assert "language_confidence" not in rows["german"].facts
    assert (rows["silence"].text, rows["silence"].facts["nothing_heard"]) == ("", "whisper")


def test_many_clips_in_one_pass_give_what_each_gives_alone(model):
    network = load_whisper(str(model), option="--model")
    said = read_sound(SENTENCE).at(16_000)
    clips = [said, np.zeros(16_000, dtype=np.float32), said[: len(said) // 2], np.tile(said, 24)]
    assert len(clips[-1]) > WINDOW, "longer than Whisper hears at once"
    languages = [None, None, "de", "fr"]
    told = hear_many(network, clips, languages)
    one_by_one = hear_many(network, clips[:3], languages[:3], at_once=1)
    assert [(one.text, one.language) for one in one_by_one] == [(one.text, one.language) for one in told[:3]]
    alone = [hear(network, clip, language=one, only_speech=True) for clip, one in zip(clips, languages, strict=True)]
    assert [one.text for one in told] == [one.text for one in alone]
    assert told[0].text == told[2].text == bigram_whisper.TEXT
    assert told[1].text == ""
    assert [told[number].language for number in (0, 2, 3)] == ["fr", "de", "fr"]
    assert told[0].language_probability == pytest.approx(alone[0].language_probability, abs=1e-3)
    assert math.exp(told[0].log_probability) == pytest.approx(bigram_whisper.PROBABILITY, abs=0.05)


def test_loops_are_heard_again(model):
    looped = Whispered(text="so " * 60, log_probability=-0.1, language="en", language_probability=1.0)
    unsure = Whispered(text="perhaps", log_probability=-1.4, language="en", language_probability=1.0)
    sure = Whispered(text="Certainly.", log_probability=-0.2, language="en", language_probability=1.0)
    assert [is_doubtful(one) for one in (looped, unsure, sure)] == [True, True, False]


def test_it_is_sent_to_processes_and_known_by_its_weights(model, tmp_path):
    sent = pickle.loads(pickle.dumps(WhisperRecogniser(str(model))))  # noqa: S301 - as processes get it
    copied = shutil.copytree(model, tmp_path / "copy")
    assert sent.settings() == WhisperRecogniser(str(copied)).settings()
    with (copied / "model.bin").open("ab") as file:
        file.write(b"\0")
    assert sent.settings() != WhisperRecogniser(str(copied)).settings()


def test_an_english_model_refuses_other_languages(folder, model, tmp_path, capsys):
    english = shutil.copytree(model, tmp_path / "english")
    (english / "vocabulary.json").write_text(json.dumps(bigram_whisper.vocabulary()[:-1]))
    assert main(["corpus", "transcribe", str(folder.path), "--model", str(english), "--language", "fr"]) == 2
    assert "knows en, not fr" in capsys.readouterr().err
    assert WhisperRecogniser(str(model)).lacks("fr") is None
    assert "knows 99 languages, not xx" in WhisperRecogniser(str(model)).lacks("xx")


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_refused_before_any_work(folder, model, name, tmp_path, capsys):
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / name).unlink()
    assert main(["corpus", "transcribe", str(folder.path), "--model", str(broken)]) == 2
    assert f"holds no {name}" in capsys.readouterr().err
    assert not (folder.path / ".work").exists()


def test_a_model_that_cannot_be_downloaded_is_said_in_one_line(folder, capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    unreachable.cache_clear()
    assert main(["corpus", "transcribe", str(folder.path)]) == 2
    unreachable.cache_clear()
    told = capsys.readouterr().err.strip()
    assert "Model small: no Whisper model could be loaded" in told
    assert "there is --recogniser sphinx;" in told
    assert "\n" not in told


def test_the_metric_counts_the_errors_of_the_same_model(model):
    take = Take(sound=read_sound(SENTENCE), text="Bonjour tout le vrai monde!", language="fr")
    assert Recognition(str(model)).measure(take)["wer"] == pytest.approx(20.0)
