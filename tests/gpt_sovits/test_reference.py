"""What a voice continues from, read from a recording as upstream's inference reads it."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.transforms import Resample

from tests.gpt_sovits.filling import wave
from tts_train_gpt_sovits.features.speaker import filter_banks
from tts_train_gpt_sovits.preparing.encode import front_end, networks_on
from tts_train_gpt_sovits.preparing.models import find_sources
from tts_train_gpt_sovits.signal.audio import training_wave
from tts_train_gpt_sovits.voice.reference import reference_from_file


@pytest.mark.parametrize("loudest", [0.1, 1.25])
def test_the_speaker_vector_is_of_the_recording_at_its_own_level(tmp_path, loudest):
    """Upstream's inference brings down what is beyond full scale and mixes nothing in, as its training does."""
    networks = networks_on(find_sources("tiny", "v2Pro"), "cpu", False, True)
    samples = np.float32(wave(4 * 32_000, 32_000))
    samples *= np.float32(loudest / np.abs(samples).max())
    soundfile.write(tmp_path / "a.wav", samples, 32_000, subtype="FLOAT")
    found = reference_from_file(
        tmp_path / "a.wav", "Hello there.", "en", front_end=front_end("v2Pro"), networks=networks
    ).speaker
    heard = torch.from_numpy(samples) / max(loudest, 1.0)
    with torch.no_grad():
        expected = networks.speaker.network(filter_banks(Resample(32_000, 16_000)(heard[None]))[None])
    mixed = networks.speaker.encode([training_wave(torch.from_numpy(samples))])[0]
    assert (found - expected).abs().max() < 0.02 * (found - mixed).abs().max()
