"""Metrics agree with themselves on real sound: better speech scores better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.core.scoring.sounds import clip, higher, mean, noisy, text
from tts_train.contract.metric import Take
from tts_train.errors import ConfigError
from tts_train.scoring.metrics.catalogue import choose, own_metrics
from tts_train.scoring.metrics.opinion import DistillMos, Dnsmos
from tts_train.scoring.metrics.reference import MelCepstralDistortion, Pitch
from tts_train.scoring.metrics.speaker import SpeakerSimilarity
from tts_train.scoring.metrics.wave import Clipping, Duration, Silence
from tts_train.scoring.metrics.words import Recognition, WordsFound, errors
from tts_train.sound import Sound

torch.set_num_threads(1)
SOME = (1, 2)


def take(number: int, sound: Sound | None = None, **more) -> Take:
    given = {"text": text(number), "language": "en", "reference": clip(number), **more}
    return Take(sound=sound or clip(number), **given)


@pytest.mark.parametrize("metric", [Dnsmos(), DistillMos()], ids=lambda metric: metric.name)
def test_naturalness_falls_with_noise(metric):
    if metric.missing():
        pytest.skip(metric.missing())
    clean = mean(metric, metric.name, [take(number) for number in SOME])
    little = mean(metric, metric.name, [take(number, noisy(clip(number), 20)) for number in SOME])
    much = mean(metric, metric.name, [take(number, noisy(clip(number), 5)) for number in SOME])
    assert clean > little + 0.3 > much + 0.6


def test_distortion_rises_with_noise_and_with_another_sentence():
    metric = MelCepstralDistortion()
    if metric.missing():
        pytest.skip(metric.missing())
    assert mean(metric, "mcd", [take(number) for number in SOME]) == pytest.approx(0, abs=1e-4)
    little = mean(metric, "mcd", [take(number, noisy(clip(number), 20)) for number in SOME])
    much = mean(metric, "mcd", [take(number, noisy(clip(number), 5)) for number in SOME])
    assert 3 < little < much - 1
    same = metric.measure(take(1, Sound(0.5 * clip(1).samples, clip(1).sample_rate)))["mcd"]
    assert same < 0.5, "level is not counted"
    slower = metric.measure(take(1, higher(clip(1), 1.03)))["mcd"]
    other = metric.measure(take(1, clip(2)))["mcd"]
    assert slower < other


def test_pitch_error_is_the_shift():
    metric = Pitch()
    if metric.missing():
        pytest.skip(metric.missing())
    figures = metric.measure(take(2, higher(clip(2), 1.25)))
    assert figures["f0_rmse"] == pytest.approx(1200 * np.log2(1.25), abs=40)
    assert figures["voicing_error"] < 15
    assert metric.measure(take(2))["f0_rmse"] == pytest.approx(0, abs=1e-6)
    assert metric.measure(take(2, clip(4)))["voicing_error"] > figures["voicing_error"]


def test_the_own_speaker_is_nearer_than_another():
    metric = SpeakerSimilarity()
    if metric.missing():
        pytest.skip(metric.missing())
    voice = tuple(clip(number) for number in (5, 6, 7))
    own = [metric.measure(take(number, voice=voice))["speaker_similarity"] for number in SOME]
    other = [
        metric.measure(take(number, higher(clip(number), 1.25), voice=voice))["speaker_similarity"] for number in SOME
    ]
    assert min(own) > 0.8
    assert min(own) > max(other)


def test_the_right_text_is_found_and_a_wrong_one_is_not():
    metric = WordsFound()
    if metric.missing():
        pytest.skip(metric.missing())
    numbers = range(1, 9)
    right = mean(metric, "words_found", [take(number) for number in numbers])
    wrong = mean(metric, "words_found", [take(number, text=text(number + 5)) for number in numbers])
    assert right > 95
    assert wrong < 50
    assert metric.measure(take(1, text="Zyxqq vrrmblk")) == {}, "words out of the dictionary say nothing"


def test_duration_and_silence():
    speech = clip(1)
    quiet = np.zeros(speech.sample_rate // 2, np.float32)
    padded = Sound(np.concatenate([quiet, speech.samples, quiet, quiet]), speech.sample_rate)
    before, after = Silence().measure(take(1)), Silence().measure(take(1, padded))
    assert after["leading_silence"] == pytest.approx(before["leading_silence"] + 0.5, abs=0.011)
    assert after["trailing_silence"] == pytest.approx(before["trailing_silence"] + 1.0, abs=0.011)
    assert Duration().measure(take(1, padded))["duration_ratio"] == pytest.approx(1, abs=0.01)
    assert Duration().measure(take(1, higher(speech, 2)))["duration_ratio"] == pytest.approx(0.5, abs=0.02)
    nothing = Sound(quiet, speech.sample_rate)
    assert Silence().measure(take(1, nothing)) == {"leading_silence": 0.5, "trailing_silence": 0.0}


def test_clipping_counts_what_was_cut():
    samples = np.array([0.5, 1.0, 1.0, 1.0, 0.5, 1.0, 0.5, -1.0, -1.0, -1.0], np.float32)
    assert Clipping().measure(take(1, Sound(samples, 24_000)))["clipped"] == pytest.approx(60)
    assert Clipping().measure(take(1))["clipped"] == 0
    loud = Sound(np.clip(8 * clip(1).samples, -1, 1), clip(1).sample_rate)
    assert Clipping().measure(take(1, loud))["clipped"] > 1


ODD = {
    "silence": np.zeros(24_000, np.float32),
    "a click": np.eye(1, 24, 12, dtype=np.float32)[0],
    "one sample": np.ones(1, np.float32),
    "full scale": np.sign(np.random.default_rng(0).standard_normal(12_000)).astype(np.float32),
    "beyond full scale": np.random.default_rng(0).standard_normal(12_000).astype(np.float32),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_odd_sounds_break_no_metric(name):
    for metric in own_metrics({}):
        if metric.missing() is None:
            odd = Sound(ODD[name], 24_000)
            figures = dict(metric.measure(take(1, odd, voice=(clip(5),))))
            if metric.wants & {"reference", "voice"}:
                figures |= metric.measure(take(1, reference=odd, voice=(odd,)))
            assert set(figures) <= {figure.name for figure in metric.figures}


def test_errors_of_a_transcript():
    pytest.importorskip("jiwer")
    assert errors("Well, hello THERE!", "well hello there") == {"wer": 0, "cer": 0}
    assert errors("one two three four", "one two four")["wer"] == pytest.approx(25)
    assert errors("…", "anything") == {}


def test_what_is_missing_is_said_and_never_left_out():
    chosen, missing = choose(own_metrics({}), [])
    assert "--weights.recognition" in missing["recognition"]
    assert "--weights.wavlm" in missing["wavlm"]
    assert {metric.name for metric in chosen} | set(missing) == {metric.name for metric in own_metrics({})}
    with pytest.raises(ConfigError, match=r"recognition.*--weights"):
        choose(own_metrics({}), ["recognition"])
    with pytest.raises(ConfigError, match="no such metric"):
        choose(own_metrics({}), ["loveliness"])


def test_a_package_that_is_not_there_is_named_with_the_line_that_installs_it():
    class Wishful(Clipping):
        packages = ("tts_train_no_such_package",)

    assert Wishful().missing() == "tts_train_no_such_package is not installed: pip install 'tts-train[eval]'"
    assert "faster_whisper" in (Recognition("large-v3").missing() or "faster_whisper")


def test_takes_that_lack_something_say_what():
    assert MelCepstralDistortion().lacks(take(1, reference=None)) == "there is no recording of this sentence"
    assert "no other recording" in (SpeakerSimilarity().lacks(take(1)) or "")
    assert "--language" in (WordsFound().lacks(take(1, language=None)) or "")
    assert WordsFound().lacks(take(1, language="de")) == "knows en only (not de)"
    assert WordsFound().lacks(take(1)) is None


@pytest.mark.slow
def test_a_wavlm_of_the_users_is_measured_with(tmp_path):
    from transformers import WavLMConfig, WavLMForXVector

    from tts_train.scoring.metrics.speaker import WavLmSimilarity

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_buckets=8,
        conv_dim=(16, 16), conv_stride=(10, 8), conv_kernel=(10, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, tdnn_dim=(16, 16), tdnn_kernel=(3, 1),
        tdnn_dilation=(1, 1), xvector_output_dim=8,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(tmp_path, safe_serialization=True)
    metric = WavLmSimilarity(str(tmp_path))
    assert metric.missing() is None
    same = metric.measure(take(1, voice=(clip(1),)))["wavlm_similarity"]
    other = metric.measure(take(1, voice=(noisy(clip(2), 0),)))["wavlm_similarity"]
    assert same == pytest.approx(1, abs=1e-5)
    assert other < same
    with pytest.raises(ConfigError, match=r"--weights\.wavlm"):
        WavLmSimilarity(str(tmp_path / "nowhere")).measure(take(1, voice=(clip(1),)))
