"""Loudness, slicing, mel spectrograms and batches by length."""

from __future__ import annotations

import pytest
import torch

from tts_train.errors import DataError
from tts_train_gpt_sovits.signal import mel
from tts_train_gpt_sovits.signal.audio import find_slices, slice_wave, to_int16, training_wave
from tts_train_gpt_sovits.stages.sovits.rows import BucketSampler

RATE = 32000


def tone(seconds, level=0.3):
    return level * torch.sin(2 * torch.pi * 200 * torch.arange(int(seconds * RATE)) / RATE)


def test_loud_recordings_are_cut_off_and_do_not_wrap():
    loud = torch.tensor([0.0, 1.9, -1.9, 0.1])
    assert training_wave(loud).tolist()[1:3] == [32767, -32768]
    assert slice_wave(loud).abs().max() <= 32767
    assert slice_wave(torch.tensor([0.5, -0.25])).tolist() == [int((0.225 + 0.375) * 32767), -int(0.3 * 32767)]


def test_fractions_are_dropped():
    assert to_int16(torch.tensor([1.9, -1.9, 40000.0])).tolist() == [1, -1, 32767]


@pytest.mark.parametrize("samples", [torch.zeros(100), torch.zeros(0), torch.tensor([0.1, float("nan")])])
def test_a_recording_without_loudness_is_refused(samples):
    with pytest.raises(DataError, match="silent"):
        training_wave(samples)


def test_a_recording_without_silence_is_one_slice():
    assert find_slices(tone(6), RATE) == [(0, 6 * RATE)]
    assert find_slices(tone(0.01), RATE) == [(0, 320)]


def test_slices_are_cut_in_the_silence():
    samples = torch.cat([tone(5), torch.zeros(RATE), tone(5)])
    first, second = find_slices(samples, RATE)
    assert first.start == 0
    assert second.end == len(samples)
    assert 5 * RATE <= first.end <= 5.5 * RATE
    assert 5.4 * RATE <= second.start <= 6 * RATE


def test_a_silent_recording_has_no_slice():
    assert find_slices(torch.zeros(10 * RATE), RATE) == []


def test_frames_follow_the_hop():
    wave = tone(1)[None]
    assert mel.spectrogram(wave).shape == (1, 1025, 50)
    assert mel.wave_log_mel(wave).shape == (1, 128, 50)
    assert mel.wave_log_mel(wave, mel.V4_MEL).shape == (1, 100, 100)


def test_a_tone_lies_in_its_bin_and_silence_at_the_floor():
    assert int(mel.spectrogram(tone(1)[None])[0, :, 25].argmax()) == round(200 * 2048 / RATE)
    assert mel.wave_log_mel(torch.zeros(1, RATE)).max() < -5.0


def test_bands_have_the_same_area():
    bands = mel.mel_bands(mel.GAN_MEL).double()
    width = RATE / mel.GAN_MEL.n_fft
    # A band narrower than a few bins is only sampled; wide ones show the area.
    torch.testing.assert_close((bands.sum(1) * width)[64:], torch.ones(64).double(), rtol=0.02, atol=0.0)
    assert (bands >= 0).all()


def test_training_goes_on_after_an_inference():
    settings = mel.MelSettings(n_mels=60)  # of no other test, so that inference makes the bands
    with torch.inference_mode():
        mel.wave_log_mel(tone(0.1)[None], settings)
    wave = tone(0.1)[None].requires_grad_()
    mel.wave_log_mel(wave, settings).sum().backward()
    assert wave.grad.abs().max() > 0


def test_normalising_runs_backwards():
    values = torch.tensor([-12.0, -5.0, 2.0])
    assert mel.normalise(values).tolist() == [-1.0, 0.0, 1.0]
    torch.testing.assert_close(mel.denormalise(mel.normalise(values)), values)


LENGTHS = [50 + 37 * i % 900 for i in range(40)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_same_buckets(shuffle):
    samplers = [BucketSampler(LENGTHS, batch_size=3, num_replicas=2, rank=rank, shuffle=shuffle) for rank in (0, 1)]
    mine, theirs = (list(sampler) for sampler in samplers)
    assert len(mine) == len(theirs) == len(samplers[0])
    for one, other in zip(mine, theirs, strict=True):
        held = {next(i for i, bucket in enumerate(samplers[0].buckets) if row in bucket) for row in one + other}
        assert len(one) == len(other) == 3
        assert len(held) == 1
    assert {row for batch in mine + theirs for row in batch} == set(range(40))


def test_the_order_follows_the_epoch_alone():
    one, other = BucketSampler(LENGTHS, batch_size=4), BucketSampler(LENGTHS, batch_size=4)
    torch.manual_seed(5)
    first = list(one)
    torch.manual_seed(6)
    assert list(other) == first
    one.set_epoch(1)
    assert list(one) != first


def test_what_is_too_short_or_long_is_counted():
    sampler = BucketSampler([32, 33, 1900, 1901], batch_size=1)
    assert sampler.num_dropped == 2
    assert sorted(row for batch in sampler for row in batch) == [1, 2]
    with pytest.raises(DataError, match="None of 2 utterances"):
        BucketSampler([10, 5000], batch_size=1)
