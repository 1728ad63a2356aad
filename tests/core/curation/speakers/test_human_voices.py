"""``corpus speakers`` on human voices: a second speaker's few clips are found; fetched with apt and never committed."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.real_voices import fetch_sounds
from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder
from tts_train.scoring.metrics.speaker import SpeakerSimilarity

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, SECOND = "it_IT_m_Carlo", "fr_CA_f_June"
MAIN, FEW = 30, 3
LEAST_BYTES = 24_000
"""Of G.722 at 64 kbit/s: three seconds, so that these are sentences and not words."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    if lack := SpeakerSimilarity().missing():
        pytest.skip(f"NO REAL VOICE WAS TESTED: {lack}")
    pytest.importorskip("av")
    share = fetch_sounds(tmp_path_factory.mktemp("apt"), "asterisk-core-sounds-it-g722", "asterisk-core-sounds-fr-g722")
    folder = tmp_path_factory.mktemp("mixed")
    for voice, count in ((FIRST, MAIN), (SECOND, FEW)):
        long = [file for file in sorted((share / "asterisk/sounds" / voice).glob("*.g722"))]
        long = [file for file in long if file.stat().st_size >= LEAST_BYTES]
        for file in long[:count]:
            shutil.copy(file, folder / f"{voice}-{file.name}")
    return folder


def test_the_second_speakers_clips_are_found(recordings, tmp_path, capsys):
    assert main(["corpus", "merge", str(recordings), "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(["corpus", "speakers", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [voice["clips"] for voice in report["clusters"].values()] == [MAIN, FEW]
    for row in CorpusFolder.open(tmp_path / "out").rows():
        assert row.speaker == ("speaker-1" if FIRST in row.audio else "speaker-2")
