"""``corpus slice`` of human speech in noise: boundaries are where they are, and no word is cut."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.curation.slicing.joined import cut, require_whole, write
from tests.real_voices import fetch_sounds
from tts_train.corpus import Limits, RowRejected, read_audio
from tts_train.curation.folder import CorpusFolder

RATE, HOP = 16_000, 80


def spoken(sound: np.ndarray) -> list[tuple[int, int]]:
    """What of a clean prompt is above -40 dB of its loudest 15 ms; gaps below 0.1 s are none."""
    power = np.square(sound[: len(sound) // HOP * HOP].reshape(-1, HOP)).mean(axis=1)
    level = 10 * np.log10(np.maximum(np.convolve(power, np.ones(3) / 3, "same"), 1e-12))
    loud = np.flatnonzero(level > level.max() - 40)
    breaks = np.flatnonzero(np.diff(loud) > 20)
    starts, ends = np.r_[loud[0], loud[breaks + 1]], np.r_[loud[breaks], loud[-1]] + 1
    return [(start * HOP, end * HOP) for start, end in zip(starts, ends, strict=True) if end - start >= 3]


@pytest.mark.slow
def test_prompts_with_pauses_and_noise_are_found_again(tmp_path, capsys):
    pytest.importorskip("av")
    (tmp_path / "apt").mkdir()
    share = fetch_sounds(tmp_path / "apt", "asterisk-core-sounds-en-g722")
    draw, parts, truth, at = np.random.default_rng(0), [], [], 0
    files = sorted((share / "asterisk" / "sounds").rglob("*.g722"))
    for number in draw.permutation(len(files)):
        if len(parts) == 100:
            break
        try:
            sound = read_audio(files[number], sample_rate=RATE, limits=Limits(min_seconds=1, max_seconds=15)).samples
        except RowRejected:
            continue
        pause = np.zeros(int(RATE * draw.uniform(0.3, 2)), np.float32)
        truth += [(at + len(pause) + start, at + len(pause) + end) for start, end in spoken(sound)]
        parts += [pause, sound]
        at += len(pause) + len(sound)
    talk, said = np.concatenate(parts), np.array(truth) / RATE
    # 20 dB below the speech: what a fan in the room does.
    noise = draw.normal(0, np.sqrt(np.mean(np.square(np.concatenate(parts[1::2])))) / 10, len(talk))
    report = cut(capsys, write(tmp_path / "talk.flac", talk + noise, RATE), tmp_path / "out")
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
