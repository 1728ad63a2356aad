"""A network speaks as fast as what it learned was recorded; users of upstream's script hear the fault of its loss."""

from __future__ import annotations

import pytest

from tests.qwen3_tts.by_heart import RIGHT, Sentences, learned, prepared, said, tuned

EPOCHS = (1, 5, 20)


@pytest.mark.slow
def test_training_on_keeps_the_speed_of_speech_and_upstreams_loss_does_not(tmp_path):
    sentences = Sentences(prepared(tmp_path / "prepared"), 12)
    lm = learned(sentences, epochs=80)
    assert said(lm, sentences).figures()["ratio"] == pytest.approx(1, abs=0.05), "it has learned its sentences"
    ours = {done: one.figures()["ratio"] for done, one in tuned(lm, sentences, RIGHT, EPOCHS).items()}
    assert ours == pytest.approx(dict.fromkeys(EPOCHS, 1.0), abs=0.05)
    theirs = tuned(lm, sentences, "upstream_head", EPOCHS)
    assert abs(theirs[20].figures()["ratio"] - 1) > 0.2, "the same measure finds the fault"
