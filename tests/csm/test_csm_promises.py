"""CSM keeps every promise of a backend, on tones with a text."""

from __future__ import annotations

import wave

import numpy as np
import torch
from transformers import AutoProcessor, CsmForConditionalGeneration
from tts_train_csm.model import CSM

from tts_train.cli import main
from tts_train.datasets.store.shards import read_index
from tts_train.testing import check_backend

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


def test_conforms(tmp_path):
    prepared, tones = tmp_path / "prepared", corpus(tmp_path / "tones")
    words = ["prepare", "--backend", "csm", "--corpus", str(tones), "--out", str(prepared), *TINY]
    assert main(words) == 0
    assert read_index(prepared)["lengths"]["total"] < 400  # positions: a frame is one
    check_backend(
        "csm",
        folder=tmp_path,
        settings={"data.path": str(prepared), "data.val_share": 0.3, "listen.sentences": 0},
        synth={"max_new_tokens": 192},
    )
    speaks_as_released(tmp_path / "lm-hf")
    adapters = tmp_path / "lora"
    words = ["fit", "--backend", "csm", "--data.path", str(prepared), "--model.init_from", str(tmp_path / "lm-hf")]
    words += ["--model.method", "lora", "--trainer.accelerator", "cpu", "--trainer.max_steps", "2"]
    words += ["--data.val_share", "0.3", "--listen.max_share", "1", "--listen.metrics", "[clipping]"]
    assert main([*words, "--run_dir", str(adapters), "--listen.sentences", "1"]) == 0
    assert list((adapters / "samples").rglob("*.wav"))
    assert main(["export", str(adapters), "--format", "hf", "--out", str(tmp_path / "merged")]) == 0
    assert main(["plan", "--backend", "csm", "--data.path", str(prepared), "--model.init_from", "tiny"]) == 0


def speaks_as_released(folder):
    """transformers' own class and processor make the prompt of training, and sound."""
    processor, model = AutoProcessor.from_pretrained(folder), CsmForConditionalGeneration.from_pretrained(folder)
    said = [{"role": "0", "content": [{"type": "text", "text": "Hello."}]}]
    given = processor.apply_chat_template(said, tokenize=True, return_dict=True, return_tensors="pt")
    words = CSM.prompt.encode_text(processor.tokenizer, "Hello.")
    assert given["input_ids"][0].tolist() == CSM.prompt.inference_prompt(words).tolist()
    (sound,) = model.generate(input_ids=given["input_ids"], max_new_tokens=2, output_audio=True)
    assert len(sound) == 2 * CSM.layout.frame_samples
    assert torch.isfinite(sound).all()
