"""Mel pictures show energy where it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.report.example import clip
from tts_train.errors import DataError
from tts_train.report import samples as mel
from tts_train.sound import mel_edges

RATE = 24_000


def tone(frequency: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("frequency", [200.0, 440.0, 1000.0, 3000.0, 8000.0])
@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_a_sine_lights_the_band_of_its_frequency(frequency, rate):
    if frequency == 8000.0 and rate == 16_000:
        frequency = 7500.0
    bands = mel.log_mel(tone(frequency, rate=rate), rate)
    loudest = int(bands.mean(axis=1).argmax())
    nearest = int(np.abs(mel_edges(rate, mel.N_MELS, "htk")[1:-1] - frequency).argmin())
    assert abs(loudest - nearest) <= 1


def test_the_picture_is_a_png_with_time_to_the_right_and_low_notes_at_the_bottom():
    wave = np.concatenate([tone(300.0, 0.5), tone(6000.0, 0.5)])
    picture = Image.open(io.BytesIO(mel.mel_picture(wave, RATE)))
    assert (picture.format, picture.mode) == ("PNG", "P")
    assert picture.height == mel.N_MELS * mel.PIXELS_PER_BAND
    assert picture.width == 2 * mel.log_mel(wave, RATE).shape[1]
    grey = np.asarray(picture.convert("L"), dtype=float)
    quarter = picture.width // 4
    row_of_first, row_of_second = grey[:, quarter].argmax(), grey[:, 3 * quarter].argmax()
    assert row_of_first > 0.7 * picture.height
    assert row_of_second < 0.3 * picture.height


def test_silence_is_dark_and_speech_is_not():
    silent = Image.open(io.BytesIO(mel.mel_picture(np.zeros(RATE), RATE)))
    assert np.asarray(silent).max() == 0
    # A tenth of the smallest 16-bit step.
    hush = mel.log_mel(3e-6 * np.random.default_rng(0).normal(size=RATE), RATE)
    assert hush.max() < -60.0
    spoken = np.asarray(Image.open(io.BytesIO(mel.mel_picture(*clip(1)))))
    assert spoken.max() == 254
    assert 0.05 < (spoken > 127).mean() < 0.6


def test_long_sounds_stay_narrow_and_short_ones_work():
    assert mel.log_mel(tone(440.0, 60.0), RATE).shape[1] <= mel.MAX_FRAMES + 2
    assert mel.log_mel(np.ones(10), RATE).shape[0] == mel.N_MELS


def test_tensors_and_arrays_look_the_same():
    wave = tone(440.0).astype(np.float32)
    tensor = torch.tensor(wave, requires_grad=True)[None]
    assert mel.mel_picture(tensor, RATE) == mel.mel_picture(wave, RATE)


def test_lightness_rises_all_the_way():
    luminance = mel.COLOURS @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[0] < 15
    assert luminance[-1] > 235


@pytest.mark.parametrize("wave", [np.zeros(0), np.array([0.0, np.nan])])
def test_what_cannot_be_drawn_is_refused(wave):
    with pytest.raises(DataError):
        mel.mel_picture(wave, RATE)
