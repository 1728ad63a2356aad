"""CSM keeps every promise of a backend, on tones with a text."""

from __future__ import annotations

import json
import logging
import wave
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoProcessor, CsmForConditionalGeneration
from transformers.utils import logging as their_logging
from tts_train_csm.model import CSM, load_tokenizer, write_processor

from tests.csm.small import pair, small_config
from tts_train.checking import check_run
from tts_train.cli import main
from tts_train.datasets.store.shards import read_index
from tts_train.datasets.takes import TakeSet
from tts_train.families.token_lm.decoding.generate import generate
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.speaking.sources import open_run
from tts_train.testing import check_backend

GREEDY = Sampling(temperature=0, repetition_penalty=1)
TINY = ["--codec", "tiny", "--tokenizer", "tiny"]


def corpus(folder):
    """Six tones, each with a text."""
    folder.mkdir()
    lines = ["file_name,text"]
    for number in range(6):
        tone = np.sin(np.arange(12000 + 3000 * number) * (0.03 + 0.01 * number)) * 9000
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24000)
            file.writeframes(tone.astype("<i2").tobytes())
        lines.append(f"{number}.wav,Sentence number {number}.")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@contextmanager
def warnings_of_transformers():
    """Collect what transformers warns of, also what it would say once a process."""
    told, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())
    their_logging.warning_once.cache_clear()
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("csm")


@pytest.fixture(scope="module")
def prepared(home):
    folder = home / "prepared"
    words = ["prepare", "--backend", "csm", "--corpus", str(corpus(home / "tones")), "--out", str(folder), *TINY]
    assert main(words) == 0
    return folder


@pytest.fixture(scope="module")
def kept(home, prepared):
    """The folder of a check, and what transformers warned of meanwhile."""
    settings = {"data.path": str(prepared), "data.val_share": 0.3, "listen.sentences": 0}
    with warnings_of_transformers() as told:
        check_backend("csm", folder=home, settings=settings, synth={"max_new_tokens": 192})
    return home, told


def test_conforms(kept, prepared):
    assert read_index(prepared)["lengths"]["total"] < 400  # positions: a frame is one
    assert not kept[1], "commands must not show what a user can do nothing about"
    lines = (kept[0] / "lm-whole" / "logs" / "metrics.jsonl").read_text().splitlines()
    recorded = {json.loads(line)["name"] for line in lines}
    assert "val/loss/depth" in recorded
    assert not {name for name in recorded if name.endswith("wrong_slot")}


def test_transformers_speaks_with_the_export(kept):
    """transformers' own class and processor make the prompt of training, and sound."""
    folder = kept[0] / "lm-hf"
    processor, model = AutoProcessor.from_pretrained(folder), CsmForConditionalGeneration.from_pretrained(folder)
    said = [{"role": "0", "content": [{"type": "text", "text": "Hello."}]}]
    given = processor.apply_chat_template(said, tokenize=True, return_dict=True, return_tensors="pt")
    words = CSM.prompt.encode_text(processor.tokenizer, "Hello.")
    assert given["input_ids"][0].tolist() == CSM.prompt.inference_prompt(words).tolist()
    (sound,) = model.generate(input_ids=given["input_ids"], max_new_tokens=2, output_audio=True)
    assert len(sound) == 2 * CSM.layout.frame_samples
    assert torch.isfinite(sound).all()
    assert 0 < sound.abs().max() < 1


def test_takes_keep_frames_and_the_end(kept, tmp_path):
    (tmp_path / "texts.txt").write_text("Hello.\nGood morning.\n")
    words = ["sample", kept[0] / "lm-whole", "--texts", tmp_path / "texts.txt", "--out", tmp_path / "takes", "--n", 2]
    words += ["--max_new_tokens", 96, "--metrics", "clipping", "--reward", "stop:1, repetition:1", "--device", "cpu"]
    assert main([*map(str, words)]) == 0
    takes = TakeSet(tmp_path / "takes", backend="csm")
    assert (len(takes), takes.facts["settings"]["codec"]) == (4, "tiny")
    tokenizer = load_tokenizer("tiny")
    for number in range(4):
        row = takes.row(number)
        prompt = CSM.prompt.inference_prompt(CSM.prompt.encode_text(tokenizer, row["text"]))
        assert row["prompt_ids"].tolist() == prompt.tolist()
        read = CSM.layout.read_generated(row["drawn_ids"])
        assert read.ended == row["ended"] == (row["drawn_ids"][-1] == CSM.layout.end_of_speech)
        assert row["ended"] or len(row["drawn_ids"]) == 96
        if not row["error"]:
            assert row["seconds"] == pytest.approx(read.frames * CSM.layout.frame_samples / CSM.layout.sample_rate)


@pytest.fixture(scope="module")
def base(home):
    """A base in a local folder, as a user has it: transformers' own, its codec in it."""
    theirs, _ = pair()
    theirs.save_pretrained(home / "base")
    tokenizer = load_tokenizer("tiny")
    write_processor(tokenizer, home / "base")
    return home / "base"


def fitted(base, prepared, run, *words):
    settings = ["--data.path", str(prepared), "--data.val_share", "0.3", "--trainer.accelerator", "cpu"]
    settings += ["--trainer.max_steps", "3", "--model.lora.rank", "4", "--model.optimizer.lr", "0.02"]
    assert (
        main(["fit", "--backend", "csm", "--model.init_from", str(base), "--run_dir", str(run), *settings, *words]) == 0
    )
    return run


@pytest.mark.slow
def test_peft_reads_the_adapters_of_both_networks(base, prepared, tmp_path):
    """On transformers' class, beside a codec whose layers have the same names; the text's embedding travels along."""
    lora = ["--model.method", "lora", "--model.lora.train_embedding", "true", "--listen.sentences", "0"]
    run = fitted(base, prepared, tmp_path / "run", *lora)
    out = tmp_path / "adapter"
    assert main(["export", str(run), "--format", "peft", "--out", str(out)]) == 0
    plain = CsmForConditionalGeneration.from_pretrained(base).eval()
    ids = CSM.prompt.inference_prompt(CSM.prompt.encode_text(load_tokenizer("tiny"), "Hello."))
    prompt = torch.from_numpy(ids)[None]
    options = {"do_sample": False, "depth_decoder_do_sample": False, "max_new_tokens": 3}
    before = plain.generate(input_ids=prompt, **options)
    adapted = PeftModel.from_pretrained(plain, out)
    heard = adapted.generate(input_ids=prompt, **options)
    network = open_run(CSM, run).network()
    (said,) = generate(CSM.layout, network.lm, list(prompt.numpy()), seeds=[0], max_new_tokens=96, sampling=GREEDY)
    assert np.array_equal(np.stack(said.content.codes, axis=1), heard[0, : said.content.frames].numpy())
    assert not torch.equal(before, heard)
    placed = {name.split(".lora_")[0] for name, _ in adapted.named_parameters() if ".lora_" in name}
    assert len(placed) == 7 * (2 + 2)  # of the backbone and the depth network, none of the codec
    assert (
        main(["synth", str(out), "--text", "Hello.", "--out", str(tmp_path / "a.wav"), "--max_new_tokens", "96"]) == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "qlora", "lora-8bit"])
def test_adapters_are_trained_heard_and_merged(base, prepared, tmp_path, method):
    heard = ["--listen.max_share", "1", "--listen.metrics", "[clipping]", "--listen.sentences", "1"]
    run = fitted(base, prepared, tmp_path / "run", "--model.method", method, *heard)
    assert list((run / "samples").rglob("*.wav"))
    losses = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    losses = [each["value"] for each in losses if each["name"] == "val/loss"]
    assert losses[-1] < losses[0]
    assert main(["export", str(run), "--format", "hf", "--out", str(tmp_path / "merged")]) == 0


@pytest.mark.slow
def test_every_weight_is_trained_exported_and_planned(base, prepared, tmp_path):
    run = fitted(base, prepared, tmp_path / "run", "--listen.sentences", "0")
    assert main(["export", str(run), "--format", "hf", "--out", str(tmp_path / "whole")]) == 0
    assert main(["export", str(run), "--format", "peft", "--out", str(tmp_path / "none")]) == 2
    check_run("lm", run, [tmp_path / "whole"])
    assert main(["plan", "--backend", "csm", "--data.path", str(prepared), "--model.init_from", "tiny"]) == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"num_codebooks": 8}, "num_codebooks is 8 and must be 32"),
        ({"text_vocab_size": 1000}, "text_vocab_size is 1000 and must be 128256"),
        ({"hidden_size": 64}, "depth_decoder_config.backbone_hidden_size is 32 and must be 64, as hidden_size"),
    ],
)
def test_a_base_of_other_parts_is_refused(changed, told, prepared, tmp_path, capsys):
    config = small_config()
    config.update(changed)
    (tmp_path / "config.json").write_text(config.to_json_string())
    words = ["fit", "--backend", "csm", "--data.path", str(prepared), "--model.init_from", str(tmp_path)]
    assert main([*words, "--run_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Choose a checkpoint of CSM, such as sesame/csm-1b." in said
