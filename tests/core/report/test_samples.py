"""Samples are written whole: sound, picture and facts."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import soundfile as sf
import torch
from PIL import Image

from tests.core.report.example import clip
from tts_train.errors import DataError
from tts_train.report import write_sample


def test_sound_picture_and_facts_lie_next_to_each_other(tmp_path):
    wave, rate = clip(1)
    facts = write_sample(tmp_path / "step-000010", "hello", wave, rate, text="Grüß dich <b>", facts={"similarity": 0.5})
    sound, read_rate = sf.read(tmp_path / "step-000010" / "hello.wav")
    assert read_rate == rate
    assert sf.info(tmp_path / "step-000010" / "hello.wav").subtype == "PCM_16"
    np.testing.assert_allclose(sound, wave, atol=1.1 / 32767)
    assert Image.open(tmp_path / "step-000010" / "hello.png").width > 300
    assert json.loads((tmp_path / "step-000010" / "hello.json").read_text(encoding="utf-8")) == facts
    assert facts["text"] == "Grüß dich <b>"
    assert facts["similarity"] == 0.5
    assert (facts["seconds"], facts["peak"], facts["clipped"]) == (round(len(wave) / rate, 3), 0.5, 0)
    assert -30 < facts["rms_db"] < -18


def test_too_loud_samples_are_limited_counted_and_never_wrap(tmp_path, caplog):
    wave = torch.tensor([0.0, 1.0, 1.5, -2.0, 0.25])
    with caplog.at_level(logging.WARNING):
        facts = write_sample(tmp_path, "loud", wave, 24_000, text="x")
    sound, _ = sf.read(tmp_path / "loud.wav", dtype="int16")
    assert sound.tolist() == [0, 32767, 32767, -32767, 8192]
    assert facts["clipped"] == 2
    assert "2 samples were beyond full scale" in caplog.text


def test_a_diverged_model_leaves_no_half_written_sample(tmp_path):
    with pytest.raises(DataError, match="not finite"):
        write_sample(tmp_path, "bad", np.array([0.0, np.inf]), 24_000, text="x")
    assert list(tmp_path.iterdir()) == []
