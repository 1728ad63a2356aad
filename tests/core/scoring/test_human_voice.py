"""The metrics on a human voice: Allison Smith's prompts, fetched with apt and never committed."""

from __future__ import annotations

import pytest
import torch

from tests.core.scoring.sounds import clip, higher, mean, noisy
from tests.orpheus.test_real_voice import sounds, texts, voice  # noqa: F401 - fixtures
from tts_train.contract.metric import Metric, Take
from tts_train.scoring.metrics.catalogue import own_metrics
from tts_train.sound import Sound, read_sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
torch.set_num_threads(1)

CLIPS = 8


@pytest.fixture(scope="module")
def prompts(voice, texts) -> list[tuple[str, Sound]]:  # noqa: F811
    return [(text, read_sound(voice / f"{name}.wav")) for name, text in list(texts.items())[:CLIPS]]


def metric(name: str) -> Metric:
    found = next(metric for metric in own_metrics({}) if metric.name == name)
    if why := found.missing():
        pytest.skip(why)
    return found


@pytest.mark.parametrize(("name", "sign"), [("dnsmos", 1), ("distillmos", 1), ("mcd", -1)])
def test_clean_is_better_than_a_little_noise_and_that_than_much(prompts, name, sign):
    found = []
    for decibels in (60, 20, 5):
        takes = [Take(sound=noisy(sound, decibels), text=text, reference=sound) for text, sound in prompts]
        found.append(sign * mean(metric(name), name, takes))
    assert found[0] > found[1] > found[2]


def test_the_own_speaker_is_nearer_than_others(prompts):
    allison = [sound for _, sound in prompts]
    own, own_higher, other = (
        [
            metric("speaker").measure(Take(sound=sound, text="", voice=voices))["speaker_similarity"]
            for sound, voices in pairs
        ]
        for pairs in (
            [(sound, tuple(each for each in allison if each is not sound)) for sound in allison],
            [(higher(sound, 1.25), tuple(allison)) for sound in allison],
            [(sound, (clip(1), clip(2), clip(3))) for sound in allison],
        )
    )
    assert min(own) > max(other)
    assert all(as_recorded > raised for as_recorded, raised in zip(own, own_higher, strict=True))


def test_the_right_text_is_found_and_a_wrong_one_is_not(prompts):
    found = metric("alignment")
    right = [Take(sound=sound, text=text, language="en") for text, sound in prompts]
    turned = prompts[3:] + prompts[:3]
    wrong = [Take(sound=sound, text=text, language="en") for (_, sound), (text, _) in zip(prompts, turned, strict=True)]
    assert mean(found, "words_found", right) > 80
    assert mean(found, "words_found", wrong) < 60
