"""Folders of ours in the released package, and its greedy speech against ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.clients import asked, client
from tests.qwen3_tts.filling import wave
from tests.qwen3_tts.released import SPEAKERS, write_released

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

QWEN_TTS = ("qwen-tts==0.1.1", "transformers==4.57.3", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
QWEN_TTS += ("accelerate==1.12.0", "librosa==0.11.0", "sox==1.4.1", "scipy==1.15.3", "numba==0.68.1")
QWEN_TTS += ("llvmlite==0.50.0", "lazy_loader==0.6", "joblib==1.6.0", "cloudpickle==3.1.3", "decorator==5.3.1")
QWEN_TTS += ("msgpack==1.2.4", "pooch==1.9.0", "platformdirs==4.3.8")
"""The released package and what it imports; without gradio, and torch is ours."""
RATE, HOP, FRAMES = 24_000, 1920, 20
TEXT, REFERENCE_TEXT = "Hello there, user.", "It was a sunny day."
CUSTOM = {
    "speaker": {"speaker": "Serena"},
    "language": {"speaker": "serena", "language": "German"},
    "dialect": {"speaker": "dylan"},
    "dialect, Chinese": {"speaker": "dylan", "language": "chinese"},
    "dialect, English": {"speaker": "eric", "language": "english"},
    "instruction": {"speaker": "ryan", "language": "english", "instruct": "Speak slowly."},
}
BASE = {
    "vector": {},
    "vector, language": {"language": "french"},
    "reference": {"reference_text": REFERENCE_TEXT},
    "reference, language": {"reference_text": REFERENCE_TEXT, "language": "english"},
}
DESIGN = {"instruction": {"instruct": "A low voice."}, "language": {"instruct": "A low voice.", "language": "korean"}}
CASES = {"custom_voice": CUSTOM, "base": BASE, "voice_design": DESIGN}
FOLDERS = {
    "r06 custom_voice": {},
    "r17 custom_voice": {"end_scale": 4.0},
    "r06 base": {"end_scale": 4.0},
    "r17 base": {},
    "r17 voice_design": {},
    "r06 base without its speaker encoder": {"leave_out": ("speaker_encoder.",)},
}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """What the released package says from each folder, in every case and both layouts."""
    place = tmp_path_factory.mktemp("interop")
    np.save(place / "reference.npy", wave(int(1.3 * RATE), RATE).astype(np.float32))
    np.save(place / "long.npy", wave(11 * RATE + 77, RATE, salt="long").astype(np.float32))
    requests = []
    for name, settings in FOLDERS.items():
        shape, kind = name.split()[:2]
        folder = write_released(place / name.replace(" ", "_"), shape=shape, kind=kind, dtype=torch.float32, **settings)
        request = {"folder": str(folder), "encode": [str(place / "reference.npy"), str(place / "long.npy")]}
        cases = [] if "leave_out" in settings else CASES[kind].values()
        requests.append(request | {"speak": [asked_for(case, kind, place, full) for case in cases for full in (1, 0)]})
    (place / "requests.json").write_text(json.dumps(requests))
    said = asked(client(*QWEN_TTS), Path(__file__).with_name("qwen_client.py"), str(place / "requests.json"))
    return place, dict(zip(FOLDERS, said, strict=True))


def asked_for(case, kind, place, full):
    """The case as the client takes it."""
    case = {"text": TEXT, "full_text": bool(full), "max_new_tokens": FRAMES + 1, **case}
    if kind == "base":
        case["reference"] = {"wave": str(place / "reference.npy")}
        if text := case.pop("reference_text", None):
            case["reference"]["text"] = text
    return case


def test_the_released_package_loads_our_folders_and_speaks(spoken):
    for name, said in spoken[1].items():
        if "without" in name:
            assert any("newly initialized" in message for message in said["told"])
            continue
        assert said["told"] == []
        assert said["speakers"] == (sorted(SPEAKERS) if "custom" in name else [])
        assert [len(codes) for codes in said["encoded"]] == [17, 138]
        for answer in said["spoken"]:
            assert answer["samples"] == HOP * len(answer["codes"])
            assert 0.01 < answer["rms"] < 1
            assert all(len(frame) == 16 for frame in answer["codes"])
        lengths = [len(answer["codes"]) for answer in said["spoken"]]
        assert (min(lengths) < FRAMES) is ("end_scale" in FOLDERS[name])
        # Otherwise a case would show nothing.
        assert len({str(answer["codes"]) for answer in said["spoken"]}) >= len(lengths) - 2, name
