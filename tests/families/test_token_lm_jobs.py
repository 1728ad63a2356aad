"""The family's jobs for a model that is not Orpheus: one codebook, a Qwen2, other ids, another prompt."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config

from tests.families.finch import END, FINCH, LAYOUT, START, FinchData, FinchModule
from tts_train.checking import check_export
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.contract.jobs import Line
from tts_train.datasets.store.shards import read_index
from tts_train.errors import ConfigError
from tts_train.families.token_lm.data.prepare import TokenPrepare
from tts_train.families.token_lm.decoding.generate import generate
from tts_train.families.token_lm.export.jobs import GgufExport, HfExport, PeftExport
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, trainable_parameters
from tts_train.families.token_lm.network.network import TokenNetwork
from tts_train.families.token_lm.network.restore import load_trained
from tts_train.families.token_lm.network.start import TinyOptions, load_base
from tts_train.families.token_lm.speaking.synth import TokenSynth
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train.run.directory import RunDirectory
from tts_train.sampling.identity import hash_weights

TINY = TinyOptions(hidden=32, layers=2, heads=2, kv_heads=1, mlp=48)


@dataclass(kw_only=True)
class FinchPrepare(TokenPrepare):
    """Prepare for Finch."""

    token_lm = FINCH
    codec: str = "loudness"
    tokenizer: str = "tiny"


@dataclass(kw_only=True)
class FinchSynth(TokenSynth):
    """Speak with Finch."""

    token_lm = FINCH


@dataclass(kw_only=True)
class FinchHf(HfExport):
    """Export Finch."""

    token_lm = FINCH


@dataclass(kw_only=True)
class FinchPeft(PeftExport):
    """Export Finch's adapter."""

    token_lm = FINCH


@dataclass(kw_only=True)
class FinchGguf(GgufExport):
    """Finch has no GGUF export."""

    token_lm = FINCH


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("finch")
    (folder / "wavs").mkdir()
    lines = []
    for number in range(4):
        time = np.arange(16_000 + 800 * number) / 16_000
        wave = np.sin(2 * np.pi * 200 * time) * np.linspace(0.1 + 0.1 * number, 0.9, len(time))
        soundfile.write(folder / "wavs" / f"u{number}.wav", wave.astype(np.float32), 16_000)
        lines.append(f"u{number}|Line {number}.")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    report = FinchPrepare(corpus=folder, out=folder.parent / "finch-prepared", device="cpu").run()
    return folder.parent / "finch-prepared", report


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    module = FinchModule(init_from="tiny", tiny=TINY)
    network = TokenNetwork(load_base(FINCH, "tiny", tiny=TINY), LAYOUT)
    generator = torch.Generator().manual_seed(1)
    for _, weight in sorted(network.named_parameters()):
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    module.network = network
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "global_step": 3}
    module.on_save_checkpoint(checkpoint)
    config = {"model": {"init_from": "tiny", "method": "full", "tiny": vars(TINY)}, "data": {"path": str(prepared[0])}}
    checkpoint[CARD_KEY] = RunCard(backend="finch", stage="lm", config=config).as_dict()
    made = RunDirectory(folder)
    made.create()
    DirectoryCheckpointIO().save_checkpoint(checkpoint, made.step_path(3))
    made.update_record(backend="finch", stage="lm")
    return folder


def test_recordings_become_rows(prepared):
    folder, report = prepared
    assert deepcopy(FINCH) is FINCH, "processes that encode are sent its name"
    index = read_index(folder)
    assert index["kind"] == "finch/lm"
    assert (report["kept"], report["rows"]) == (4, 4)
    frames = sum(-(-(16_000 + 800 * number) // 320) for number in range(4))
    assert report["frames"] + report["frames_repeated"] == frames
    assert report["tokens"] == report["frames"] + sum(len(f"Line {number}.") + 3 for number in range(4))


def speak(source: Path, out: Path, **options: Any) -> Any:
    given = {"text": "Hello.", "max_new_tokens": 30, "constrain": "slots", "device": "cpu", **options}
    return FinchSynth(source=source, out=out, **given).run()


def test_a_run_and_its_export_say_the_same(run, tmp_path):
    exported = FinchHf(source=run, out=tmp_path / "voice", dtype="fp32").run()
    assert exported["verified"]
    reports = [speak(source, tmp_path / f"{source.name}.wav") for source in (run, tmp_path / "voice")]
    assert (tmp_path / "run.wav").read_bytes() == (tmp_path / "voice.wav").read_bytes()
    assert reports[0]["tokens"] == reports[1]["tokens"] > 0
    info = soundfile.info(tmp_path / "run.wav")
    assert (info.samplerate, info.frames % 320) == (16_000, 0)
    streamed = speak(run, tmp_path / "streamed.wav", stream=True)
    assert streamed["tokens"] == reports[0]["tokens"]
    assert soundfile.info(tmp_path / "streamed.wav").frames == info.frames
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "voice")
    assert (type(loaded).__name__, loaded.config.eos_token_id) == ("Qwen2ForCausalLM", END)
    card = (tmp_path / "voice" / "README.md").read_text()
    check_export("lm", FinchModule("tiny"), FinchData("-"), run=run, export=tmp_path / "voice")
    weights = load_file(tmp_path / "voice" / "model.safetensors")
    save_file({name: weight.flip(0) for name, weight in weights.items()}, tmp_path / "voice" / "model.safetensors")
    with pytest.raises(AssertionError, match=r"the export voice does not say what its run says: .* from number 1 on"):
        check_export("lm", FinchModule("tiny"), FinchData("-"), run=run, export=tmp_path / "voice")
    assert "A Finch text-to-speech model" in card
    assert "codec `loudness`, 50.0 a second" in card


def test_many_lines_and_the_codec_alone(run, tmp_path):
    job = FinchSynth(source=run, text="-", out=tmp_path, device="cpu", max_new_tokens=20, constrain="slots")
    lines = [Line(text=text, out=tmp_path / f"{n}.wav", seed=n) for n, text in enumerate(("Hi.", "A longer line."))]
    assert [report["seed"] for report in job.speak_all(lines)] == [0, 1]
    alone = tmp_path / "alone.wav"
    speak(run, alone, text="A longer line.", seed=1, max_new_tokens=20)
    assert alone.read_bytes() == (tmp_path / "1.wav").read_bytes()
    soundfile.write(tmp_path / "in.wav", 0.5 * np.sin(np.arange(16_000) / 9), 16_000)
    assert job.round_trip([(tmp_path / "in.wav", Line(text="-", out=tmp_path / "out.wav"))])
    assert soundfile.info(tmp_path / "out.wav").frames == 16_000


def test_what_a_model_has_no_export_for_is_refused_by_name(run, tmp_path):
    with pytest.raises(ConfigError, match=r"trained every weight.*Use --format hf"):
        FinchPeft(source=run, out=tmp_path / "adapter").run()
    pytest.importorskip("gguf")
    with pytest.raises(ConfigError, match=r"tokenizer of Finch. Use --format hf"):
        FinchGguf(source=run, out=tmp_path / "voice").run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Qwen2Config, Qwen3Config])
def test_greedy_ids_are_those_of_transformers(kind):
    torch.manual_seed(0)
    sizes = {"vocab_size": LAYOUT.vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 24, "initializer_range": 0.4}
    lm = AutoModelForCausalLM.from_config(kind(**sizes, **heads)).eval()
    for name, weight in lm.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            weight.data += 0.3 * torch.randn_like(weight)
    prompt = np.array([256, 72, 105, START])
    ours = generate(
        LAYOUT, lm, [prompt], seeds=[0], max_new_tokens=20, sampling=Sampling(temperature=0, repetition_penalty=1)
    )
    theirs = lm.generate(
        torch.as_tensor(prompt)[None], do_sample=False, max_new_tokens=20, eos_token_id=END, pad_token_id=0
    )
    assert list(ours[0].ids) == theirs[0, len(prompt) :].tolist()
    assert len(set(ours[0].ids)) > 3


def test_networks_of_another_shape_are_refused():
    sizes = {"vocab_size": 400, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    windows = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    for config, why in (
        (MistralConfig(**sizes, **heads), "'mistral'; speech can be generated with llama, qwen2, qwen3"),
        (Qwen2Config(**sizes, **heads, **windows), "sliding window in some layers"),
    ):
        lm = AutoModelForCausalLM.from_config(config).eval()
        with pytest.raises(ConfigError, match=why):
            generate(LAYOUT, lm, [np.array([1, START])], seeds=[0], max_new_tokens=2)


def test_adapters_of_a_base_of_other_sizes_are_refused_by_name():
    network = TokenNetwork(load_base(FINCH, "tiny", tiny=TINY), LAYOUT)
    apply_method(network, "lora", LoraOptions())
    weights = {f"network.{name}": value for name, value in trainable_parameters(network).items()}
    model = {"init_from": "tiny", "method": "lora", "tiny": {**vars(TINY), "mlp": 2 * TINY.mlp}}
    with pytest.raises(ConfigError, match="of another size"):
        load_trained(FINCH, model, weights)


def test_takes_of_a_run_and_of_its_export_are_the_same_and_tell_what_they_know(run, prepared, tmp_path):
    FinchHf(source=run, out=tmp_path / "voice", dtype="fp32").run()
    jobs = [
        FinchSynth(source=source, text="-", out=tmp_path, device="cpu", max_new_tokens=20, constrain="slots")
        for source in (run, tmp_path / "voice")
    ]
    lines = [Line(text=text, out=tmp_path, seed=n) for n, text in enumerate(("Hi.", "A longer line.", "Hi."))]
    for one, other in zip(*(job.draw(lines) for job in jobs), strict=True):
        assert one.columns["drawn_ids"].tolist() == other.columns["drawn_ids"].tolist()
        assert one.columns["prompt_ids"].tolist()[-1] == START
        assert len(one.frames) == len(one.sound.samples) // 320
    of_run, of_export = (job.known() for job in jobs)
    assert of_run["settings"]["codec"] == of_export["settings"]["codec"] == "loudness"
    assert of_run["settings"]["tokenizer"] == "tiny"
    assert of_run.keys() == of_export.keys()
    assert replace(jobs[0], codec="other").known()["settings"]["codec"] == "other"
    released = FinchSynth(source=Path("nobody/finch"), text="-", out=tmp_path).known()
    assert released["settings"] == {"codec": "loudness", "tokenizer": "nobody/finch", "voice_prefix": False}
    before = hash_weights(tmp_path / "voice")
    assert before == hash_weights(tmp_path / "voice") != hash_weights(Path("nobody/finch"))
    config = tmp_path / "voice" / "config.json"
    config.write_text(config.read_text() + " ")
    assert hash_weights(tmp_path / "voice") != before
    assert hash_weights(RunDirectory(run).step_path(3)) != before
