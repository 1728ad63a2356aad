"""The codec in the package: Orpheus's layout, the sample voice kept, streamed sound the same, faults named."""

from __future__ import annotations

import time
from importlib.resources import files

import numpy as np
import pytest
import soundfile
import torch

from tests.apple import OnApple
from tests.orpheus.family import StreamDecoder
from tests.orpheus.test_layout import random_levels
from tts_train.demo.journey import VOICE
from tts_train.errors import DataError
from tts_train_orpheus import layout
from tts_train_orpheus.codec import tiny_sound as sound
from tts_train_orpheus.codec.snac import load_codec
from tts_train_orpheus.codec.tiny import WEIGHTS, TinyCodec

MEL_DB = 1.85
"""Mean difference of log mel spectra that a round trip may have; 2.0 was measured."""
WORDS_KEPT = 0.97
"""Share of the words found in the recordings that must be found after it; 0.998 was measured."""


@pytest.fixture(scope="module")
def codec():
    return load_codec("tiny")


@pytest.fixture(scope="module")
def recordings():
    """The sample voice's clips: sentences that the codec was not trained on."""
    files = sorted((VOICE / "wavs").glob("*.flac"))
    return [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]


@pytest.fixture(scope="module")
def codes(codec, recordings):
    return codec.encode(recordings)


def tone(samples):
    return 0.3 * torch.sin(torch.arange(samples) * 0.05)


def log_mel(wave):
    whole = wave[: len(wave) // sound.HOP * sound.HOP]
    mel = sound.magnitudes(whole[None], sound.N_FFT, sound.HOP) @ sound.mel_filters(sound.MELS, sound.N_FFT)
    return torch.log(mel + 0.1)[0]


def mel_distance(a, b):
    """Mean difference of log mel spectra in decibels."""
    return float((log_mel(a) - log_mel(b)).abs().mean() * 20 / np.log(10))


def test_tiny_is_this_codec_and_the_same_at_each_load(codec):
    assert isinstance(codec, TinyCodec)
    assert (codec.sample_rate, codec.frame_samples) == (24000, 2048)
    assert codec.fingerprint == load_codec("tiny").fingerprint
    assert codec.fingerprint.startswith("tiny-")


def test_the_weights_are_small_and_load_quickly(codec):
    assert files("tts_train_orpheus.codec").joinpath(WEIGHTS).stat().st_size < 10e6
    begun = time.process_time()
    TinyCodec()
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("samples", [1, 2047, 2048, 2049])
def test_a_clip_has_as_many_frames_as_it_begins(codec, samples):
    (levels,) = codec.encode([tone(samples)])
    frames = -(-samples // 2048)
    assert [len(level) for level in levels] == [frames, 2 * frames, 4 * frames]
    assert all(level.dtype == np.int64 for level in levels)
    assert codec.decode(levels).shape == (frames * 2048,)


def test_codes_do_not_depend_on_company_or_on_the_callers_precision(codec, recordings):
    (alone,) = codec.encode(recordings[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, beside = codec.encode([tone(5000), recordings[0]])
    assert [level.tolist() for level in alone] == [level.tolist() for level in beside]


def test_every_level_is_in_use(codes):
    for number, level in enumerate(zip(*codes, strict=True)):
        used, total = np.unique(np.concatenate(level)).size, sum(len(part) for part in level)
        assert used > 0.25 * min(total, layout.CODEBOOK_SIZE), number


def test_the_sample_voice_survives(codec, recordings, codes):
    made = [codec.decode(levels)[: len(clip)] for levels, clip in zip(codes, recordings, strict=True)]
    kept = [mel_distance(a, b) for a, b in zip(made, recordings, strict=True)]
    assert np.mean(kept) < MEL_DB
    for level in range(3):
        broken = [np.roll(part, 5) if place == level else part for place, part in enumerate(codes[0])]
        assert mel_distance(codec.decode(broken)[: len(recordings[0])], recordings[0]) > 1.1 * kept[0]


def test_the_words_survive(codec, recordings, codes):
    pytest.importorskip("pocketsphinx")
    from tts_train.contract.metric import Take
    from tts_train.scoring.metrics.words import WordsFound
    from tts_train.sound import Sound

    texts = [line.split("|")[1] for line in (VOICE / "metadata.csv").read_text().splitlines()]
    metric, found = WordsFound(), {"recorded": [], "decoded": []}
    for clip, levels, text in list(zip(recordings, codes, texts, strict=True))[::4]:
        for kind, wave in (("recorded", clip), ("decoded", codec.decode(levels)[: len(clip)])):
            take = Take(sound=Sound(wave.numpy(), codec.sample_rate), text=text)
            found[kind].append(metric.measure(take)["words_found"])
    assert np.mean(found["decoded"]) > WORDS_KEPT * np.mean(found["recorded"])


def test_noise_depends_on_the_seed_alone(codec):
    levels = random_levels(3)
    first, silent = codec.decode(levels, seed=1), codec.decode(levels, seed=None)
    torch.manual_seed(99)
    assert torch.equal(first, codec.decode(levels, seed=1))
    assert not torch.equal(first, codec.decode(levels, seed=2))
    assert not torch.equal(first, silent)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("frames", "chunk_frames"), [(1, 1), (4, 1), (7, 2), (16, 1), (15, 4)])
def test_the_stream_is_the_whole_decode(codec, frames, chunk_frames, seed):
    levels = random_levels(frames)
    tokens = [*layout.codes_to_tokens(levels).tolist(), layout.END_OF_SPEECH]
    heard = torch.cat(list(StreamDecoder(codec, seed=seed, chunk_frames=chunk_frames).decode(tokens)))
    whole = codec.decode(levels, seed=seed)
    assert heard.shape == whole.shape
    assert (heard - whole).abs().max() <= 1e-4 * max(1.0, float(whole.std()))


def test_less_context_would_be_heard(codec, monkeypatch):
    monkeypatch.setattr(codec, "context_frames", 1)
    levels = random_levels(12)
    heard = torch.cat(list(StreamDecoder(codec, seed=None).decode(layout.codes_to_tokens(levels).tolist())))
    assert (heard - codec.decode(levels, seed=None)).abs().max() > 1e-3


def test_levels_that_cannot_be_decoded_are_named(codec):
    with pytest.raises(DataError, match=r"\[1, 2, 4\], and these have \[1, 1, 4\]"):
        codec.decode([[1], [1], [1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"\[0, 4096\)"):
        codec.decode([[1], [1, 4096], [1, 2, 3, 4]])
    assert codec.decode([[], [], []]).shape == (0,)


@pytest.mark.parametrize("clip", [torch.zeros(0), torch.zeros(1, 9), torch.tensor([0.0, float("nan")])])
def test_a_clip_that_is_no_sound_is_named(codec, clip):
    with pytest.raises(DataError, match="Clip 1 "):
        codec.encode([torch.zeros(5), clip])


def test_spectra_and_back_give_the_sound():
    wave = torch.randn(1, 8192, generator=torch.Generator().manual_seed(0))
    back = sound.sound_of(sound.spectra(wave, sound.N_FFT, sound.HOP))
    assert torch.allclose(back[:, 512:-512], wave[:, 512:-512], atol=1e-5)


def test_pulses_are_the_sum_of_their_harmonics():
    cycles = torch.linspace(0, 40, 4801, dtype=torch.float64)[None, :4800]
    pitch = torch.full((1, 4800), 2200.0)
    due = sum(torch.cos(2 * np.pi * h * cycles) for h in range(1, 6)).float()
    assert torch.allclose(sound.pulses(cycles, pitch, torch.ones_like(pitch)), due, atol=1e-3)


def test_the_phase_begins_anew_where_it_can_be_known_and_bends_the_pitch_little():
    pitch, voice = torch.full((1, 5 * 2048), 201.3), torch.ones(1, 5 * 2048)
    cycles = sound.anchored_cycles(pitch, voice, 1)
    ends = cycles[0, [2047, 2047 + 4096, 2047 + 8192]]
    assert torch.allclose(ends, ends.round(), atol=1e-6)
    inside = cycles[0, 3000:6000].diff() * 24000
    assert (inside / 201.3 - 1).abs().max() < 0.015


def test_the_pulses_need_no_float64_where_there_is_none():
    pitch, voice = torch.full((1, 4096), 120.0), torch.ones(1, 4096)
    wide = sound.anchored_cycles(pitch, voice, 1)
    narrow = sound.anchored_cycles(pitch.as_subclass(OnApple), voice.as_subclass(OnApple), 1)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.as_subclass(torch.Tensor).double(), wide, atol=1e-4)
