"""Findings of the sound on human voices: few on clean prompts, and the faults that are put in."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from tests.core.findings import corpora
from tests.core.findings.corpora import RATE
from tests.core.findings.test_sound_kinds import measured, require, told
from tests.real_voices import fetch_sounds
from tts_train.corpus.audio.read import read_audio
from tts_train.findings.sound.duplicates import DuplicateJudge
from tts_train.findings.sound.envelope import EnvelopeJudge
from tts_train.findings.sound.levels import LevelJudge
from tts_train.findings.sound.spectrum import SpectrumJudge
from tts_train.findings.sound.voice import VoiceJudge

COUNT = 24


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """English and French prompts of 2 to 8 s at 24 kHz, by name."""
    pytest.importorskip("av")
    share = fetch_sounds(
        tmp_path_factory.mktemp("sounds"), *(f"asterisk-core-sounds-{one}-g722" for one in ("en", "fr"))
    )
    homes = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June"}
    found = {}
    for language, home in homes.items():
        files = sorted((share / "asterisk" / "sounds" / home).glob("*.g722"))
        long = [file for file in files if 16_000 <= file.stat().st_size <= 64_000][:COUNT]
        found[language] = {
            file.stem: soxr.resample(read_audio(file).samples, 16_000, RATE).astype(np.float32) for file in long
        }
    return found


@pytest.mark.slow
def test_clean_prompts_have_few_findings_and_faults_are_told(prompts):
    clips = prompts["en"]
    first, second, *_ = clips
    for make, kind, fault in (
        (EnvelopeJudge, "noisy", lambda clip: corpora.with_noise(clip, 4)),
        (EnvelopeJudge, "reverberant", lambda clip: corpora.in_a_hall(clip, 1.0)),
        (LevelJudge, "clipping", corpora.clipped),
        (SpectrumJudge, "music", corpora.with_chords),
    ):
        judge = make()
        clean = [measured(judge, name, clip) for name, clip in clips.items()]
        # Prompts of 16 kHz in a file of 24: that much is missing from every one.
        alarms = {each for each in told(judge, clean) if each[0] != "band_limited"}
        assert len(alarms) <= 1, alarms
        spoilt = [measured(judge, name, fault(clips[name])) for name in (first, second)]
        assert {(kind, first), (kind, second)} <= told(judge, spoilt + clean[2:])


@pytest.mark.slow
def test_copies_and_a_second_speaker_are_told_among_human_voices(prompts):
    require("resemblyzer")
    rows = [measured(DuplicateJudge(), name, clip) for name, clip in prompts["en"].items()]
    assert not told(DuplicateJudge(), rows)
    name, clip = next(iter(prompts["en"].items()))
    again = measured(DuplicateJudge(), "again", corpora.by_mp3(clip[2000:]))
    assert told(DuplicateJudge(), [*rows, again]) == {("duplicate_sound", name), ("duplicate_sound", "again")}
    voices = [measured(VoiceJudge(), name, clip) for name, clip in prompts["en"].items()]
    strangers = [measured(VoiceJudge(), f"fr {name}", clip) for name, clip in list(prompts["fr"].items())[:2]]
    found = {name for _, name in told(VoiceJudge(), voices + strangers)}
    assert {row.origin for row in strangers} <= found
    assert len(found) <= len(strangers) + 1
