"""What ``init`` prints runs as it is pasted; recipes of a third party; the folder of the demo."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import soundfile
import yaml

from tts_train.cli import main
from tts_train.cli.next_step import after_check
from tts_train.demo.journey import VOICE, _clear
from tts_train.errors import ConfigError
from tts_train.plugins import Plugins
from tts_train.recipes import find_recipe


@pytest.fixture(autouse=True)
def corpus(tmp_path, monkeypatch):
    """Six recordings that name neither speaker nor language, in a folder whose name needs quotes."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my recordings"
    (folder / "wavs").mkdir(parents=True)
    rows = (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()[:6]
    for row in rows:
        shutil.copy(VOICE / "wavs" / f"{row.split('|')[0]}.flac", folder / "wavs")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("backend", "recipe"), [("orpheus", "lm-tiny"), ("gpt_sovits", "gpt-tiny")])
def test_the_commands_run_as_they_are_pasted(backend, recipe, capsys):
    assert main(["init", "a voice: mine", "--backend", backend, "--data", "my recordings", "--recipe", recipe]) == 0
    facts, _, lines = capsys.readouterr().out.partition("Next, a line at a time:")
    assert "nothing" in facts
    commands = [line for line in lines.splitlines() if line]
    assert [line.split()[1] for line in commands] == ["check", "prepare", "fit"]
    for line in commands:
        words = shlex.split(line)[1:]
        fast = ["--trainer.max_steps", "1", "--listen.sentences", "0"] if words[0] == "fit" else []
        assert main([*words, *fast]) == 0, capsys.readouterr().err


def test_a_recipe_for_released_networks_says_what_is_downloaded_and_for_which_version(capsys):
    assert (
        main(["init", "v", "--backend", "gpt_sovits", "--data", "my recordings", "--recipe", "gpt-v2pro", "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert "lj1995/GPT-SoVITS" in told["downloads"]
    assert told["next"][1].endswith("--version v2Pro --language auto")
    assert main(["init", "w", "--backend", "gpt_sovits", "--data", "my recordings", "--language", "en", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["next"][1].endswith("--language en")
    assert main(["init", "x", "--backend", "orpheus", "--data", "my recordings", "--language", "en"]) == 2
    assert "asks for no language" in capsys.readouterr().err
    assert main(["init", "my recordings/voice", "--backend", "orpheus", "--data", "my recordings"]) == 2
    assert "outside of --data my recordings" in capsys.readouterr().err


def test_one_recording_without_texts_gets_every_command_from_slicing_on(corpus, capsys):
    shutil.copy(corpus / "wavs" / "sample-01.flac", "interview.flac")
    assert main(["init", "my-voice", "--data", "interview.flac"]) == 0
    facts, _, lines = capsys.readouterr().out.partition("Next, a line at a time:")
    assert "by default; also installed" in facts
    commands = [line.removeprefix("tts-train ") for line in lines.splitlines() if line.startswith("tts-train ")]
    verbs = ["corpus slice", "corpus transcribe", "corpus review", "corpus apply", "check ", "prepare ", "fit "]
    assert [verb for verb in verbs if any(line.startswith(verb) for line in commands)] == verbs
    assert commands[0] == "corpus slice interview.flac --out my-voice/corpus"
    assert "--corpus my-voice/corpus --out my-voice/prepared" in " ".join(commands)
    assert (
        main(["init", "other", "--data", "interview.flac", "--backend", "orpheus", "--language", "fr", "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert "backend" not in told
    assert any(line.endswith("corpus transcribe other/corpus --language fr") for line in told["next"])
    assert main(["init", "third", "--data", "interview.flac", "--recipe", "lm-tiny"]) == 0
    assert "orpheus (by default" in capsys.readouterr().out, "the backend that has the recipe"
    assert main(["init", "fourth", "--data", "interview.flac", "--recipe", "nothing"]) == 2
    assert "Name one with --backend" in capsys.readouterr().err
    assert main(["init", "my recordings/voice", "--data", "my recordings/wavs", "--backend", "orpheus"]) == 0
    assert main(["init", "my recordings/wavs/voice", "--data", "my recordings/wavs", "--backend", "orpheus"]) == 2
    assert "outside of --data" in capsys.readouterr().err


def test_check_and_prepare_say_what_comes_next(capsys):
    words = ["--backend", "orpheus", "--data", "my recordings", "--recipe", "lm-tiny"]
    assert main(["init", "voice", *words, "--json"]) == 0
    _, prepare, fit = json.loads(capsys.readouterr().out)["next"]
    shutil.move("my recordings", "voice/corpus")
    assert main(["check", "voice/corpus", "--backend", "orpheus", "--dropped", "d.jsonl", "--min_seconds", "0.2"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Next: ")]
    (line,) = said
    assert line == (
        "Next: tts-train prepare --backend orpheus --min_seconds 0.2 --corpus voice/corpus --out voice/prepared"
    )
    deep = ["--deep", "--thresholds=level=30", "--out", "found", "--kept", "kept.jsonl", "--max-dropped", "0.5"]
    after_check("voice/corpus", ["--backend", "orpheus", "voice/corpus", *deep], kept=Path("voice/kept.jsonl"))
    assert capsys.readouterr().err == (
        "Next: tts-train prepare --backend orpheus --max-dropped 0.5 --corpus voice/kept.jsonl --out voice/prepared\n"
    )
    prepare = prepare.replace("'my recordings'", "voice/corpus")
    assert main([*shlex.split(prepare)[1:], "--out", "voice/prepared"]) == 0
    assert f"Next: {fit}\n" in capsys.readouterr().err
    assert main([*shlex.split(prepare)[1:], "--out", "elsewhere"]) == 0
    assert "Next: tts-train fit --backend orpheus -c lm-lora --data.path elsewhere\n" in capsys.readouterr().err
    assert main([*shlex.split(prepare)[1:], "--out", "elsewhere", "--json"]) == 0
    assert "Next:" not in capsys.readouterr().err


def test_recipes_of_a_third_party_are_found(capsys):
    path = find_recipe("toy", "hum-small")
    assert path.parent.parent.name == "tts_train_toy"
    assert main(["fit", "-c", "hum-small", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_steps"] == 60
    assert main(["init", "h", "--backend", "toy", "--data", "my recordings"]) == 0


def test_a_name_that_is_nearly_a_recipe_is_answered_with_the_recipe(capsys):
    for given, meant in (("tiny", "lm-tiny"), ("lm-lroa", "lm-lora")):
        assert main(["init", "voice", "--backend", "orpheus", "--data", ".", "--recipe", given]) == 2
        assert f"has no recipe '{given}'. Did you mean {meant}" in capsys.readouterr().err


def test_the_sample_voice_is_written_as_one_recording(capsys):
    assert main(["demo", "--recording", "interview.mp3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    sound, rate = soundfile.read("interview.mp3")
    assert told["sentences"] == 40
    assert len(sound) / rate == pytest.approx(told["seconds"], abs=0.1)
    assert main(["demo", "--recording", "interview.txt"]) == 2
    assert "--recording interview.txt: its ending says which format" in capsys.readouterr().err


def test_a_demo_removes_only_what_the_same_demo_wrote(tmp_path, capsys):
    (tmp_path / "page.md").write_text("mine")
    assert main(["demo", "--backend", "orpheus", "--out", "page.md"]) == 2
    assert "page.md is a file and stays as it is" in capsys.readouterr().err
    stages = {name: Plugins().load(name).stages for name in ("orpheus", "gpt_sovits")}
    out = tmp_path / "demo"
    _clear(out, "orpheus", stages["orpheus"])
    (out / "lm").mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds the demo of 'orpheus', which stays as it is"):
        _clear(out, "gpt_sovits", stages["gpt_sovits"])
    assert (out / "lm").is_dir()
    _clear(out, "orpheus", stages["orpheus"])
    assert not (out / "lm").exists()
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="no demo made it"):
        _clear(tmp_path / "my recordings", "orpheus", stages["orpheus"])
