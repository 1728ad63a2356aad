"""The released package has the same codes, from folders of ours and from the small codec that was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.clients import asked, client
from tests.qwen3_tts.released import write_released
from tests.qwen3_tts.test_codec import sound
from tests.qwen3_tts.test_interop import QWEN_TTS
from tts_train_qwen3_tts.codec.files import write_codec
from tts_train_qwen3_tts.codec.load import load_codec

pytestmark = pytest.mark.slow


def test_the_released_package_encodes_as_we_do(tmp_path):
    clips = {name: sound(samples, name) for name, samples in (("short", 31_201), ("long", 11 * 24_000 + 77))}
    for name, clip in clips.items():
        np.save(tmp_path / f"{name}.npy", clip.numpy())
    filled, tiny = (
        write_released(tmp_path / name, shape="r06", kind="custom_voice", dtype=torch.float32)
        for name in ("filled", "tiny")
    )
    shutil.rmtree(tiny / "speech_tokenizer")
    write_codec(load_codec("tiny"), tiny / "speech_tokenizer")
    files = [str(tmp_path / f"{name}.npy") for name in clips]
    (tmp_path / "requests.json").write_text(
        json.dumps([{"folder": str(folder), "encode": files} for folder in (filled, tiny)])
    )
    said = asked(client(*QWEN_TTS), Path(__file__).with_name("qwen_client.py"), str(tmp_path / "requests.json"))
    for folder, answer in zip((filled, tiny), said, strict=True):
        assert answer["told"] == []
        ours = load_codec(str(folder)).encode(list(clips.values()))
        for codes, levels in zip(answer["encoded"], ours, strict=True):
            np.testing.assert_array_equal(np.array(codes).T, levels)
    # With the window the first 10 s are the same, and what follows is not.
    windowed = np.stack(load_codec(f"{filled}#window=on").encode([clips["long"]])[0])
    differ = (windowed != np.array(said[0]["encoded"][1]).T).any(0).nonzero()[0]
    assert 125 <= differ[0] < 138
