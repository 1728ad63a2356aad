"""Qwen3-TTS as a backend: read the table. Classes are named, not imported, so that listings need no torch."""

from __future__ import annotations

from tts_train.contract import Backend, Curve, Demo, Format, Package, Sharding, Stage, hookimpl
from tts_train.families.token_lm import preference_stage, reinforce_stage

_PACKAGE = "tts_train_qwen3_tts"

LM = Stage(
    name="lm",
    summary="Text to frames of 12.5 Hz: a Qwen3 for the first code, a small network for the other 15.",
    model=f"{_PACKAGE}.stage:Qwen3TTSModule",
    data=f"{_PACKAGE}.stage:Qwen3TTSData",
    prepare=f"{_PACKAGE}.jobs:Qwen3TTSPrepare",
    synth=f"{_PACKAGE}.jobs:Qwen3TTSSynth",
    formats={
        "custom_voice": Format(
            summary="folder for qwen-tts whose speakers are chosen by name", job=f"{_PACKAGE}.export:CustomVoiceExport"
        ),
        "base": Format(
            summary="folder for qwen-tts that clones voices, with its speaker encoder",
            job=f"{_PACKAGE}.export:BaseExport",
        ),
    },
    sharding=Sharding(wrap=("Qwen3DecoderLayer",)),
    defaults={"trainer.gradient_clip_val": 1.0},
    demo=Demo(
        recipe="lm-demo",
        kill_at=90,
        judged_by="train/loss",
        falls_below=0.03,
        # As wide as the recipe's network; one voice needs no name.
        prepare=("--codec", "tiny", "--tokenizer", "tiny", "--speaker_encoder", "tiny-192"),
        formats=("base",),
        # A base that clones needs a reference; the run knows its speaker.
        speaks_with="run",
        synth=("--codec", "tiny", "--max_new_tokens", "640"),
        remark="a codec with random weights: what is spoken is noise",
    ),
    identity=(
        "model.init_from",
        "model.tiny",
        "model.method",
        "model.lora",
        "model.frozen",
        "model.freeze_embedding",
        "data.path",
        "data.voice",
        "data.references",
    ),
    tiny={
        "model.init_from": "tiny",
        "model.method": "lora",
        "model.schedule.name": "constant",
        "data.max_tokens": 256,
    },
)

DPO = preference_stage(LM, model=f"{_PACKAGE}.stage:Qwen3TTSPreference", data=f"{_PACKAGE}.stage:Qwen3TTSPairs")
GRPO = reinforce_stage(LM, model=f"{_PACKAGE}.stage:Qwen3TTSReinforce", data=f"{_PACKAGE}.stage:Qwen3TTSPrompts")


@hookimpl
def tts_train_backend() -> Backend:
    """Describe the backend."""
    return Backend(
        name="qwen3_tts",
        summary="Qwen3-TTS of 12 Hz: a Qwen3 that speaks frames of 16 codes.",
        stages=(LM, DPO, GRPO),
        default=LM.name,
        start=("lm-lora",),
        packages=(Package(name="peft"),),
        reasons={
            "bad_reference": "The voice cannot be taken from the row's ref_audio; give 3 s or more of one speaker.",
        },
        titles={
            "slot_accuracy": Curve(title="Accuracy by codebook", part="codebook"),
            "code_use": Curve(title="Share of each codebook in use", part="codebook"),
            "code_perplexity": Curve(title="Codes that each codebook uses evenly", part="codebook"),
        },
    )
