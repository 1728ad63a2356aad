"""CSM as a backend: read the table. Classes are named, not imported, so that listings need no torch."""

from __future__ import annotations

from tts_train.contract import Backend, Curve, Demo, Format, Package, Sharding, Stage, hookimpl
from tts_train.families.token_lm import preference_stage, reinforce_stage

_PACKAGE = "tts_train_csm"

LM = Stage(
    name="lm",
    summary="Text to frames of Mimi: a Llama for the first code, a small one for the other 31.",
    model=f"{_PACKAGE}.stage:CsmModule",
    data=f"{_PACKAGE}.stage:CsmData",
    prepare=f"{_PACKAGE}.jobs:CsmPrepare",
    synth=f"{_PACKAGE}.jobs:CsmSynth",
    formats={
        "hf": Format(summary="folder for transformers' CSM, its codec in it", job=f"{_PACKAGE}.jobs:CsmHf"),
        "peft": Format(summary="LoRA adapters of both networks for peft", job=f"{_PACKAGE}.jobs:CsmPeft"),
    },
    sharding=Sharding(wrap=("CsmDecoderLayer",)),
    defaults={"trainer.gradient_clip_val": 1.0},
    demo=Demo(
        recipe="csm-demo",
        kill_at=20,
        judged_by="train/loss",
        falls_below=0.9,
        prepare=("--codec", "tiny", "--tokenizer", "tiny"),
        formats=("hf",),
        synth=("--codec", "tiny", "--max_new_tokens", "640"),
        remark="a codec with random weights: what is spoken is noise",
    ),
    identity=("model.init_from", "model.tiny", "model.method", "model.lora", "model.freeze_embedding", "data.path"),
    tiny={
        "model.init_from": "tiny",
        "model.method": "lora",
        "model.tiny.hidden": 32,
        "model.tiny.layers": 1,
        "model.schedule.name": "constant",
        "data.max_tokens": 256,
    },
)

DPO = preference_stage(LM, model=f"{_PACKAGE}.stage:CsmPreference", data=f"{_PACKAGE}.stage:CsmPairs")
GRPO = reinforce_stage(LM, model=f"{_PACKAGE}.stage:CsmReinforce", data=f"{_PACKAGE}.stage:CsmPrompts")


@hookimpl
def tts_train_backend() -> Backend:
    """Describe the backend."""
    return Backend(
        name="csm",
        summary="CSM: a Llama and a depth network that speak frames of Mimi.",
        stages=(LM, DPO, GRPO),
        default=LM.name,
        start=("csm-lora",),
        packages=(Package(name="peft"),),
        titles={
            "slot_accuracy": Curve(title="Accuracy by codebook", part="codebook"),
            "code_use": Curve(title="Share of each codebook in use", part="codebook"),
            "code_perplexity": Curve(title="Codes that each codebook uses evenly", part="codebook"),
        },
    )
