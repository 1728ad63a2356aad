"""``corpus slice`` of human speech in noise: boundaries are where they are, and no word is cut."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.corpus_slicing import RATE, joined, noise
from tests.core.curation.slicing.joined import cut, require_whole, write
from tests.real_voices import fetch_sounds
from tts_train.curation.folder import CorpusFolder


@pytest.mark.slow
def test_prompts_with_pauses_and_noise_are_found_again(tmp_path, capsys):
    pytest.importorskip("av")
    (tmp_path / "apt").mkdir()
    share = fetch_sounds(tmp_path / "apt", "asterisk-core-sounds-en-g722")
    talk, said = joined(share / "asterisk" / "sounds", 50)
    # 20 dB below the speech: what a fan in the room does.
    hiss = noise("white", 20, talk)
    report = cut(capsys, write(tmp_path / "talk.flac", talk + hiss, RATE), tmp_path / "out")
    rows = CorpusFolder.open(tmp_path / "out").rows()
    away, inside = [], []
    for row in rows:
        for side, (edge, margin) in enumerate(
            [(row.cut.start, row.facts["margins"][0]), (row.cut.end, -row.facts["margins"][1])]
        ):
            away.append(np.abs(edge + margin - said[:, side]).min())
            inside.append(((said[:, 0] < edge) & (edge < said[:, 1])).any())
    assert np.mean(np.array(away) <= 0.05) >= 0.95
    assert not any(inside)
    assert all(row.seconds <= 15 for row in rows)
    assert report["seconds"]["kept"] > 0.9 * np.sum(said[:, 1] - said[:, 0])
    require_whole(tmp_path / "out", [len(talk)], RATE)
