"""Folders of ours in the released package, and its greedy speech against ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.clients import asked, client
from tests.qwen3_tts.filling import inputs, wave
from tests.qwen3_tts.released import SPEAKERS, write_released
from tests.qwen3_tts.trained_runs import write_run
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.speaking.voice import open_voice
from tts_train_qwen3_tts.export import BaseExport, CustomVoiceExport
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.networks.speaker import embed

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

QWEN_TTS = ("qwen-tts==0.1.1", "transformers==4.57.3", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
QWEN_TTS += ("accelerate==1.12.0", "librosa==0.11.0", "sox==1.4.1", "scipy==1.15.3", "numba==0.68.1")
QWEN_TTS += ("llvmlite==0.50.0", "lazy_loader==0.6", "joblib==1.6.0", "cloudpickle==3.1.3", "decorator==5.3.1")
QWEN_TTS += ("msgpack==1.2.4", "pooch==1.9.0", "platformdirs==4.3.8")
"""The released package and what it imports; without gradio, and torch is ours."""
RATE, HOP, FRAMES = 24_000, 1920, 20
TEXT, REFERENCE_TEXT = "Hello there, user.", "It was a sunny day."
CUSTOM = [
    {"speaker": "Serena"},
    {"speaker": "serena", "language": "German"},
    {"speaker": "dylan"},
    {"speaker": "dylan", "language": "chinese"},
    {"speaker": "eric", "language": "english"},
    {"speaker": "ryan", "language": "english", "instruct": "Speak slowly."},
]
BASE = [
    {},
    {"language": "french"},
    {"reference_text": REFERENCE_TEXT},
    {"reference_text": REFERENCE_TEXT, "language": "english"},
]
DESIGN = [{"instruct": "A low voice."}, {"instruct": "A low voice.", "language": "korean"}]
CASES = {"custom_voice": CUSTOM, "base": BASE, "voice_design": DESIGN}
RELEASED = {
    "r06_custom_voice": {},
    "r17_custom_voice": {"end_scale": 4.0},
    "r06_base": {"end_scale": 4.0},
    "r17_base": {},
    "r17_voice_design": {},
}
INCOMPLETE = {"r06_base_without_its_encoder": {"leave_out": ("speaker_encoder.",)}}
EXPORTED = {
    "exported_custom_voice": ("full", CustomVoiceExport, "fp32"),
    "exported_base": ("lora", BaseExport, "bf16"),
}
"""Of runs from ``r17_base``: the method, the job and the type of the weights."""
VOICES = ("alice", "bob")
"""Speakers whom the runs know by vectors."""
CASES |= {"exported_custom_voice": [{"speaker": "bob"}, {"speaker": "Alice", "language": "german"}]}
GREEDY = Sampling(temperature=0, top_p=1, repetition_penalty=1.05)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """What the released package says from each folder with the whole text first, and of the last case streamed too."""
    place = tmp_path_factory.mktemp("interop")
    np.save(place / "reference.npy", reference().numpy())
    for name, settings in {**RELEASED, **INCOMPLETE}.items():
        shape, kind = name[:3], kind_of(name)
        write_released(place / name, shape=shape, kind=kind, dtype=torch.float32, **settings)
    for name, (method, job, dtype) in EXPORTED.items():
        write_run(place / method, init_from=place / "r17_base", method=method, voices=vectors())
        job(source=place / method, out=place / name, codec=str(place / "r17_base"), dtype=dtype).run()
    requests = []
    for name in (*RELEASED, *INCOMPLETE, *EXPORTED):
        cases = [] if name in INCOMPLETE else cases_of(name)
        speak = [asked_for(case, kind_of(name), place, full_text=True) for case in cases]
        speak += [asked_for(case, kind_of(name), place, full_text=False) for case in cases[-1:]]
        requests.append({"folder": str(place / name), "encode": [str(place / "reference.npy")], "speak": speak})
    (place / "requests.json").write_text(json.dumps(requests))
    said = asked(client(*QWEN_TTS), Path(__file__).with_name("qwen_client.py"), str(place / "requests.json"))
    return place, dict(zip((*RELEASED, *INCOMPLETE, *EXPORTED), said, strict=True))


def reference():
    return torch.from_numpy(wave(int(1.3 * RATE), RATE)).float()


def vectors():
    return {name: 3 * inputs(f"voice.{name}", (64,)).float() for name in VOICES}


def kind_of(name):
    return next(kind for kind in ("custom_voice", "voice_design", "base") if kind in name)


def cases_of(name):
    return CASES.get(name, CASES[kind_of(name)])


def asked_for(case, kind, place, *, full_text):
    """The case as the client takes it."""
    case = {"text": TEXT, "full_text": full_text, "max_new_tokens": FRAMES + 1, **case}
    if kind == "base":
        case["reference"] = {"wave": str(place / "reference.npy")}
        if text := case.pop("reference_text", None):
            case["reference"]["text"] = text
    return case


def test_the_released_package_loads_our_folders_and_speaks(spoken):
    names = {"r06_custom_voice": SPEAKERS, "r17_custom_voice": SPEAKERS, "exported_custom_voice": VOICES}
    for name in (*RELEASED, *EXPORTED):
        said = spoken[1][name]
        assert said["told"] == []
        assert said["speakers"] == sorted(names.get(name, ()))
        assert [len(codes) for codes in said["encoded"]] == [17]
        assert len(said["spoken"]) == len(cases_of(name)) + 1
        for answer in said["spoken"]:
            assert answer["samples"] == HOP * len(answer["codes"])
            assert 0.01 < answer["rms"] < 1
            assert all(len(frame) == 16 for frame in answer["codes"])
        lengths = [len(answer["codes"]) for answer in said["spoken"]]
        assert max(lengths) <= FRAMES
        if name in RELEASED:
            assert (min(lengths) < FRAMES) is ("end_scale" in RELEASED[name])
        # Otherwise a case would show nothing. A dialect is the speaker's, whether Chinese is asked for or nothing.
        same = 1 if cases_of(name) is CUSTOM else 0
        assert len({str(answer["codes"]) for answer in said["spoken"]}) == len(lengths) - same, name
    for name in INCOMPLETE:
        assert any("newly initialized" in message for message in spoken[1][name]["told"])


@pytest.mark.parametrize("name", [*RELEASED, *EXPORTED])
def test_greedy_speech_is_the_same(spoken, name):
    """Frame by frame, with the whole text first; voices have the vectors, and references the codes, of ours."""
    place, heard = spoken[0], spoken[1][name]["spoken"][:-1]
    voice, base = opened(place, name), kind_of(name) == "base"
    layout, codes = voice.token_lm.layout, voice.codec.encode([reference()])[0]
    prompts, voices = [], []
    for case in cases_of(name):
        case = {**({"speaker": "voice"} if base else {}), **case}
        text = case.pop("reference_text", None)
        # Upstream leaves an instruction out with the small custom voices, and says nothing.
        if name == "r06_custom_voice":
            case.pop("instruct", None)
        voices.append(replace(voice, references=((text, layout.codes_to_tokens(codes)),) if text else ()))
        prompts += voices[-1].prompts([TEXT], **case)
    said = voice.say(prompts, seeds=[0] * len(prompts), max_new_tokens=FRAMES * layout.slots)
    wanted = [answer["codes"] for answer in heard]
    assert [np.stack(each.content.codes, axis=1).tolist() for each in said] == wanted
    assert [each.content.ended for each in said] == [len(frames) < FRAMES for frames in wanted]
    for each, answer, used in zip(said, heard, voices, strict=True):
        # Upstream decodes the reference in front of what continues it, and cuts its sound off.
        sound = used.sound(each.content.codes, seed=0)
        assert probed(sound.numpy()) == pytest.approx(answer["probe"], abs=1e-5)
        streamed = torch.cat(list(used.stream_decoder(seed=0).decode(each.ids)))
        assert torch.allclose(streamed, sound, atol=1e-5)


def opened(place, name):
    """Our voice: of a run for the speakers that it was exported with, else of the folder, with a reference's vector."""
    source = place / (EXPORTED[name][0] if name == "exported_custom_voice" else name)
    given = {"device": torch.device("cpu"), "dtype": torch.float32, "sampling": GREEDY, "as_trained": False}
    voice = open_voice(QWEN3_TTS, source, codec=str(place / name), **given)
    if kind_of(name) == "base":
        voice.lm.take_voices(["voice"], embed(voice.lm.speaker_encoder, reference())[None])
    return voice


def probed(sound):
    return sound[np.linspace(0, len(sound) - 1, 50).astype(int)].tolist()


@pytest.mark.parametrize("name", ["r06_base", "r17_base", "exported_base"])
def test_a_voice_has_the_same_vector(spoken, name):
    place, heard = spoken[0], spoken[1][name]["spoken"][0]
    wanted = torch.tensor(heard["vector"])
    assert wanted.square().mean() > 1
    assert (opened(place, name).lm.voices[0] - wanted).abs().max() < 1e-4
