"""PocketSphinx as a recogniser: real, offline; how good it is, on a human voice."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import soundfile

from tests.core.curation.recognition.folders import by_name, transcribe
from tests.orpheus.test_real_voice import sounds, texts, voice  # noqa: F401 - fixtures
from tts_train.corpus import read_audio
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.demo.journey import VOICE
from tts_train.scoring.metrics.words import errors
from tts_train.scoring.recognisers.sphinx import SphinxRecogniser
from tts_train.sound import Sound, read_sound

SENTENCE = VOICE / "wavs" / "sample-17.flac"


def test_words_have_their_places_and_the_text_its_confidence():
    sent = pickle.loads(pickle.dumps(SphinxRecogniser(None)))  # noqa: S301 - as processes get it
    sound = read_sound(SENTENCE)
    heard = sent.recognise(sound, None)
    assert heard.text == " ".join(word for word, _, _ in heard.words)
    assert len(heard.words) >= 3
    assert 0 < heard.confidence < 1
    assert heard.language == "en"
    times = [edge for _, *edges in heard.words for edge in edges]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= sound.seconds + 0.02


def test_silence_says_nothing(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    samples, rate = soundfile.read(SENTENCE)
    soundfile.write(tmp_path / "clips/said.wav", samples, rate)
    soundfile.write(tmp_path / "clips/silence.wav", np.zeros(rate), rate)
    soundfile.write(tmp_path / "clips/hiss.wav", np.random.default_rng(0).normal(0, 0.01, rate), rate)
    folder = CorpusFolder(tmp_path)
    folder.write([ClipRow(audio=f"clips/{name}.wav", seconds=1.0) for name in ("said", "silence", "hiss")])
    told = transcribe(folder, capsys, "--recogniser", "sphinx")
    assert (told["transcribed"], told["nothing_heard"]) == (1, 2)
    assert "3 of 10 words wrong" in told["worth"]
    rows = by_name(folder)
    assert rows["said"].language == "en"
    assert rows["silence"].facts == rows["hiss"].facts == {"nothing_heard": "sphinx"}


@pytest.mark.slow
def test_of_a_human_voice_about_three_words_in_ten_are_wrong_and_far_more_by_telephone(voice, texts):  # noqa: F811
    recogniser, said, heard = SphinxRecogniser(None), list(texts.items())[::8], {".g722": [], ".wav": []}
    for (name, _), suffix in itertools.product(said, heard):
        # 16 kHz, and 8 kHz.
        audio = read_audio(voice / f"{name}{suffix}")
        heard[suffix].append(recogniser.recognise(Sound(audio.samples, audio.sample_rate), "en").text)
    text = " ".join(text for _, text in said)
    wide, narrow = (errors(text, " ".join(texts))["wer"] for texts in heard.values())
    assert 10 < wide < 45
    assert narrow > wide + 10
