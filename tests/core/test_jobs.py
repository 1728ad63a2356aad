"""The jobs of a backend as calls report, refuse and write what the commands do (also tests/test_python_page.py)."""

from __future__ import annotations

import json
import threading

import pytest

import tts_train
from tts_train import Training, evaluate, export, prepare, speak
from tts_train.cli import main
from tts_train.errors import ConfigError, DataError, UnsafeFileError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "run"
    trainer = {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": False}
    return Training({"backend": "toy"}, trainer=trainer, run_dir=folder).fit().run_dir


def told(capsys, *words) -> dict:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_export_and_speech_are_those_of_the_commands(run, tmp_path, capsys):
    command = told(capsys, "export", run, "--format", "tones", "--out", tmp_path / "command")
    call = export(run, format="tones", out=tmp_path / "call", checkpoint="last")
    assert {**call, "path": ""} == {**command, "path": ""}
    files = [(tmp_path / name / "tones.safetensors").read_bytes() for name in ("command", "call")]
    assert files[0] == files[1]

    command = told(capsys, "synth", run, "--text", "hello", "--out", tmp_path / "command.wav")
    call = speak(run, text="hello", out=tmp_path / "call.wav")
    assert call == {**command, "path": str(tmp_path / "call.wav")}
    assert (tmp_path / "call.wav").read_bytes() == (tmp_path / "command.wav").read_bytes()


def test_speech_in_a_thread(run, tmp_path):
    thread = threading.Thread(target=speak, args=[run], kwargs={"text": "hello", "out": tmp_path / "hello.wav"})
    thread.start()
    thread.join()
    assert (tmp_path / "hello.wav").stat().st_size > 8000


REFUSED = [
    (
        "synth RUN --text= --out x.wav",
        lambda run: speak(run, text="", out="x.wav"),
    ),
    (
        "synth RUN --text hi --out x.wav --txt hi",
        lambda run: speak(run, text="hi", out="x.wav", txt="hi"),
    ),
    (
        "synth RUN --text hi --out x.wav --checkpoint 7",
        lambda run: speak(run, text="hi", out="x.wav", checkpoint=7),
    ),
    (
        "synth nowhere --text hi --out x.wav",
        lambda run: speak("nowhere", text="hi", out="x.wav"),
    ),
    (
        "export RUN --format gguf --out x",
        lambda run: export(run, format="gguf", out="x"),
    ),
    (
        "prepare --backend toy --corpus x --out y",
        lambda run: prepare("x", backend="toy", out="y"),
    ),
    (
        "prepare --backend orpheus --corpus x --out y --workers many",
        lambda run: prepare("x", backend="orpheus", out="y", workers="many"),
    ),
    (
        "eval RUN RUN --data x --out y",
        lambda run: evaluate([run, run], data="x", out="y"),
    ),
    (
        "eval RUN --data x --out y --sentences 0",
        lambda run: evaluate([run], data="x", out="y", sentences=0),
    ),
]


@pytest.mark.parametrize(("words", "call"), REFUSED, ids=[words for words, _ in REFUSED])
def test_what_a_command_refuses_is_refused_with_the_same_text(words, call, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.replace("RUN", str(run)).split()) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    with pytest.raises((ConfigError, DataError)) as refused:
        call(run)
    assert f"tts-train: {refused.value}" == said


def test_code_in_files_is_refused(run, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for call in (lambda: speak(run, text="hi", out="x.wav"), lambda: evaluate(run, data="x", out="y")):
        with pytest.raises(UnsafeFileError, match="Unset it"):
            call()


def test_what_a_program_works_with_is_listed_and_nothing_else_is_there():
    assert {"Training", "evaluate", "export", "plan", "prepare", "speak"} <= set(dir(tts_train)) & set(
        tts_train.__all__
    )
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        tts_train.train  # noqa: B018 - asking is the test
