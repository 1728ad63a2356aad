"""Each finding about the sound alone: told where the fault is put in, and not where it is not."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from tests.core.findings import corpora
from tests.core.findings.corpora import RATE, some, voice
from tts_train.contract.metric import Take
from tts_train.findings.measure import Examined, Measured, NotMeasured
from tts_train.findings.sound.duplicates import DuplicateJudge
from tts_train.findings.sound.envelope import EnvelopeJudge
from tts_train.findings.sound.levels import LevelJudge
from tts_train.findings.sound.spectrum import SpectrumJudge
from tts_train.findings.sound.voice import VoiceEmbedding, VoiceJudge
from tts_train.sound import Sound


def require(package):
    """Skip the test where a package is not there; its weights are used and not its code, which needs others."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def measured(judge, name, samples, **about):
    """Measure one clip as the command does."""
    raw = samples if samples.ndim == 2 else samples[:, None]
    mono = raw.mean(axis=1) - raw.mean()
    take = Take(sound=Sound(mono.astype(np.float32), RATE), text="")
    examined = Examined(take=take, speaker=None, raw=raw.astype(np.float32), raw_rate=RATE)
    figures = {key: value for measure in judge.measures for key, value in measure().measure(examined).items()}
    return replace(
        Measured(origin=name, text="", speaker=None, language=None, seconds=len(raw) / RATE, figures=figures), **about
    )


def told(judge, rows):
    """Return what a judge tells at its own thresholds, as (kind, row)."""
    thresholds = {kind.name: kind.threshold for kind in judge.kinds}
    return {(finding.kind, finding.origin) for finding in judge.judge(rows, thresholds)}


FAULTS = {
    "clipping": (LevelJudge, corpora.clipped),
    "dc_offset": (LevelJudge, lambda clip: 0.5 * clip + np.float32(0.02)),
    "level": (LevelJudge, lambda clip: clip * np.float32(0.2)),
    "channels_differ": (LevelJudge, lambda clip: np.stack([clip, np.resize(voice()["sample-09"], len(clip))], 1)),
    "noisy": (EnvelopeJudge, lambda clip: corpora.with_noise(clip, 5)),
    "reverberant": (EnvelopeJudge, lambda clip: corpora.in_a_hall(clip, 1.2)),
    "silence_inside": (EnvelopeJudge, lambda clip: corpora.halves(clip, 1.3)),
    "silence_around": (EnvelopeJudge, lambda clip: np.concatenate([clip, np.zeros(RATE, np.float32)])),
    "music": (SpectrumJudge, corpora.with_chords),
    "band_limited": (SpectrumJudge, corpora.at_8_khz),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_told_and_clean_clips_are_not(kind):
    make, fault = FAULTS[kind]
    judge, clips = make(), some(8)
    rows = [measured(judge, name, fault(clip) if name == "sample-03" else clip) for name, clip in clips.items()]
    assert {each for each in told(judge, rows) if each[0] == kind} == {(kind, "sample-03")}
    assert not told(judge, [measured(judge, name, clip) for name, clip in clips.items()])


@pytest.mark.parametrize(
    "channels",
    [
        lambda clip: np.stack([clip, clip], 1),
        lambda clip: np.stack([clip, -clip], 1),
        lambda clip: np.stack([clip, 0.6 * np.roll(clip, 200)], 1),
    ],
    ids=["equal", "wired the wrong way round", "two microphones"],
)
def test_two_channels_of_one_voice_are_not_told(channels):
    rows = [measured(LevelJudge(), "stereo", channels(voice()["sample-01"]))]
    assert rows[0].figures["likeness"] > 0.9
    assert not told(LevelJudge(), rows)


COPIES = {
    "the same": lambda clip: clip,
    "quieter": lambda clip: 0.2 * clip,
    "another rate": lambda clip: corpora.at_8_khz(clip),
    "MP3": corpora.by_mp3,
    "cut": lambda clip: clip[RATE // 7 : -RATE // 10],
    "cut and MP3": lambda clip: corpora.by_mp3(clip[RATE // 9 :]),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_clip_is_told_with_the_clip_that_it_is_of(copy):
    judge = DuplicateJudge()
    rows = [measured(judge, name, clip) for name, clip in some(8).items()]
    rows.append(measured(judge, "again", COPIES[copy](voice()["sample-05"]).astype(np.float32)))
    assert told(judge, rows) == {("duplicate_sound", "again"), ("duplicate_sound", "sample-05")}
    assert judge.figures(rows)["duplicate_sound"]["again"].detail == "the same as sample-05"


def test_a_hundred_copies_are_all_told_and_nothing_else():
    judge = DuplicateJudge()
    rows = [measured(judge, name, clip) for name, clip in some(6).items()]
    copies = [replace(rows[2], origin=f"copy {number}") for number in range(100)]
    expected = {("duplicate_sound", row.origin) for row in [rows[2], *copies]}
    assert told(judge, rows + copies) == expected


def test_no_rows_and_clips_too_short_for_a_frame_are_no_duplicates():
    judge = DuplicateJudge()
    assert not told(judge, [])
    rows = [measured(judge, str(seed), voice()["sample-01"][seed * 3000 :][:3000]) for seed in range(4)]
    assert not told(judge, rows)


def other_person(clip):
    """A longer or shorter throat: all of the spectrum is moved."""
    import soxr

    return soxr.resample(clip, RATE, int(RATE * 0.7))


def test_another_speaker_is_told_among_clips_of_one():
    require("resemblyzer")
    judge, clips = VoiceJudge(), some(10)
    rows = [measured(judge, name, other_person(clip) if name == "sample-03" else clip) for name, clip in clips.items()]
    assert told(judge, rows) == {("other_speaker", "sample-03")}
    # With names, each voice is held against its own.
    named = [replace(row, speaker=row.origin if row.origin == "sample-03" else "ann") for row in rows]
    assert not told(judge, named)


def test_few_clips_are_not_judged_and_a_moment_is_no_voice():
    require("resemblyzer")
    rows = [measured(VoiceJudge(), name, clip) for name, clip in some(3).items()]
    assert not told(VoiceJudge(), rows)
    moment = Take(sound=Sound(voice()["sample-01"][:9000], RATE), text="")
    with pytest.raises(NotMeasured, match="less than a second"):
        VoiceEmbedding().measure(Examined(take=moment, speaker=None, raw=moment.sound.samples[:, None], raw_rate=RATE))


def test_listeners_would_rate_a_noisy_clip_badly():
    require("speechmos")
    from tts_train.findings.sound.listeners import OpinionJudge

    clip = voice()["sample-01"]
    rows = [measured(OpinionJudge(), "noisy", corpora.with_noise(clip, 5)), measured(OpinionJudge(), "clean", clip)]
    assert told(OpinionJudge(), rows) == {("poor_quality", "noisy")}


@pytest.mark.parametrize("judge", [LevelJudge, EnvelopeJudge, SpectrumJudge, DuplicateJudge])
@pytest.mark.parametrize("samples", [np.zeros(2400), np.zeros(1), np.full(500, 0.5), np.eye(1, 4000, 7)[0]], ids=len)
def test_odd_sounds_give_finite_figures(judge, samples):
    row = measured(judge(), "odd", samples.astype(np.float32))
    assert all(np.isfinite(value) for value in row.figures.values() if not isinstance(value, str))
    told(judge(), [row])
