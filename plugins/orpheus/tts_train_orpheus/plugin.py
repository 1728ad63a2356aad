"""Orpheus as a backend: read the table. Classes are named, not imported, so that listings need no torch."""

from __future__ import annotations

from tts_train.contract import Backend, Curve, Demo, Format, Package, Sharding, Stage, hookimpl
from tts_train.families.token_lm import preference_stage, reinforce_stage

_PACKAGE = "tts_train_orpheus"

LM = Stage(
    name="lm",
    summary="Text to SNAC tokens: a Llama that continues a line of text with speech.",
    model=f"{_PACKAGE}.stage:OrpheusModule",
    data=f"{_PACKAGE}.stage:OrpheusData",
    prepare=f"{_PACKAGE}.jobs:OrpheusPrepare",
    synth=f"{_PACKAGE}.jobs:OrpheusSynth",
    formats={
        "hf": Format(
            summary="folder for transformers and vLLM: safetensors, tokenizer, generation settings",
            job=f"{_PACKAGE}.jobs:OrpheusHf",
        ),
        "peft": Format(summary="LoRA adapter for peft", job=f"{_PACKAGE}.jobs:OrpheusPeft"),
        "merged": Format(
            summary="base and adapter as one model, in the layout of hf", job=f"{_PACKAGE}.jobs:OrpheusMerged"
        ),
        "gguf": Format(
            summary="file for llama.cpp: f16, bf16, q8_0 or q4_k (Q4_K_M)", job=f"{_PACKAGE}.jobs:OrpheusGguf"
        ),
    },
    sharding=Sharding(wrap=("LlamaDecoderLayer",)),
    defaults={"trainer.gradient_clip_val": 1.0},
    demo=Demo(
        recipe="lm-demo",
        kill_at=90,
        judged_by="train/loss",
        falls_below=0.03,
        prepare=("--codec", "tiny", "--tokenizer", "tiny"),
        formats=("hf",),
        synth=("--codec", "tiny", "--max_new_tokens", "280", "--constrain", "slots"),
        remark="not in the training data: this small model knows its sentences by heart, not words",
        learned=("--temperature", "0", "--repetition_penalty", "1", "--max_new_tokens", "400"),
    ),
    identity=("model.init_from", "model.method", "model.lora", "model.freeze_embedding", "data.path"),
)

DPO = preference_stage(LM, model=f"{_PACKAGE}.stage:OrpheusPreference", data=f"{_PACKAGE}.stage:OrpheusPairs")
GRPO = reinforce_stage(LM, model=f"{_PACKAGE}.stage:OrpheusReinforce", data=f"{_PACKAGE}.stage:OrpheusPrompts")


@hookimpl
def tts_train_backend() -> Backend:
    """Describe the backend."""
    return Backend(
        name="orpheus",
        summary="Orpheus: a Llama that speaks SNAC tokens.",
        stages=(LM, DPO, GRPO),
        default=LM.name,
        start=("lm-lora",),
        packages=(
            Package(name="peft"),
            Package(name="snac"),
            Package(name="gguf", purpose="exports for llama.cpp", needed=False, extra="gguf"),
        ),
        titles={
            "slot_accuracy": Curve(title="Accuracy by slot of a frame", part="slot"),
            "code_use": Curve(title="Share of each codebook in use", part="level"),
            "code_perplexity": Curve(title="Codes that each codebook uses evenly", part="level"),
        },
    )
