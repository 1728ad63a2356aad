"""GPT-SoVITS as a backend: read the table. Classes are named, not imported, so that listings need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.contract import Backend, Demo, Format, Package, Sharding, Stage, hookimpl

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

_HERE = "tts_train_gpt_sovits"
_PREPARE = f"{_HERE}.preparing.prepare:GptSovitsPrepare"
_SYNTH = f"{_HERE}.voice.synth:GptSovitsSynth"
_TINY = ("--models", "tiny", "--language", "en")
_REMARK = "Every network is small and starts from seeded random weights: this proves the way, it is not speech."
_S1 = Format(summary="GPT file for upstream's GPT_weights folders", job=f"{_HERE}.export:S1Export")
_S2 = Format(summary="SoVITS file for upstream's SoVITS_weights folders", job=f"{_HERE}.export:S2Export")
_FULL = Format(
    summary="generator and critics, laid out as the released bases, to train on from",
    job=f"{_HERE}.export:FullExport",
)
_REASONS = {
    "language_not_enabled": "A part of the text is in a language that was left out; enable it or remove the row.",
    "language_not_in_v1": "The phoneme table of this version lacks the language; prepare for a later version.",
    "unknown_phone": "A phone is not in the phoneme table; correct it or remove the row.",
}
_GPT_SHARDING = Sharding(wrap=("Layer",))
_SOVITS_SHARDING = Sharding(wrap=("ResidualBlock", "ScaleCritic", "PeriodCritic"))
_GPT_IDENTITY = ("model.init_from", "model.method", "model.lora", "model.optimizer_kind", "data.path")

GPT = Stage(
    name="gpt",
    summary="Text to semantic tokens: how a voice says things.",
    model=f"{_HERE}.stages.gpt.module:GptModule",
    data=f"{_HERE}.stages.gpt.data:GptData",
    prepare=_PREPARE,
    synth=_SYNTH,
    formats={"s1": _S1},
    sharding=_GPT_SHARDING,
    defaults={"trainer.accumulate_grad_batches": 4},
    identity=_GPT_IDENTITY,
    demo=Demo(
        falls_below=0.85,
        recipe="gpt-tiny",
        kill_at=12,
        prepare=_TINY,
        formats=("s1",),
        speaks_with="run",
        synth=("--sovits", "tiny"),
        remark=_REMARK,
    ),
)

DPO = Stage(
    name="dpo",
    summary="Direct Preference Optimization of the stage gpt: fewer repeated and swallowed words.",
    model=f"{_HERE}.stages.gpt.dpo:DpoModule",
    data=f"{_HERE}.stages.gpt.data:GptData",
    prepare=_PREPARE,
    synth=_SYNTH,
    formats={"s1": _S1},
    sharding=_GPT_SHARDING,
    defaults={"trainer.accumulate_grad_batches": 4, "data.pairs": "made"},
    identity=_GPT_IDENTITY,
    demo=Demo(
        recipe="dpo-tiny",
        kill_at=6,
        falls_below=1.01,  # preferences must not cost what was learnt
        prepare=_TINY,
        fit=("--model.init_from", "{gpt}"),
        formats=("s1",),
        speaks_with="run",
        synth=("--sovits", "tiny"),
        remark=_REMARK,
    ),
)

SOVITS = Stage(
    name="sovits",
    summary="Semantic tokens to sound, adversarial: how a voice sounds (v1, v2, v2Pro, v2ProPlus).",
    model=f"{_HERE}.stages.sovits.module:SovitsModule",
    data=f"{_HERE}.stages.sovits.data:SovitsData",
    prepare=_PREPARE,
    synth=_SYNTH,
    formats={"s2": _S2, "full": _FULL},
    sharding=_SOVITS_SHARDING,
    links={"model.segment_frames": "data.segment_frames"},
    identity=("model.init_from", "model.version", "model.freeze_quantizer", "data.path"),
    demo=Demo(
        recipe="sovits-tiny",
        kill_at=12,
        falls_below=0.8,
        prepare=_TINY,
        formats=("s2", "full"),
        speaks_with="run",
        synth=("--gpt", "{gpt}"),
        remark=_REMARK,
    ),
)

CFM = Stage(
    name="cfm",
    summary="Semantic tokens to mel spectrograms by flow matching, LoRA or whole (v3, v4).",
    model=f"{_HERE}.stages.sovits.cfm_module:CfmModule",
    data=f"{_HERE}.stages.sovits.data:SovitsData",
    prepare=_PREPARE,
    formats={"s2": _S2, "full": _FULL},
    defaults={"data.max_seconds": 20.0},
    identity=("model.init_from", "model.version", "model.method", "model.lora_rank", "data.path"),
)


def _language(name: str, extra: str, *, reads: str, module: str = "") -> Package:
    return Package(name=name, module=module, purpose=f"reads {reads} text", needed=False, extra=extra)


@hookimpl
def tts_train_backend() -> Backend:
    """Describe the backend."""
    return Backend(
        name="gpt_sovits",
        summary="GPT-SoVITS: phonemes to semantic tokens to sound, in the manner of a short reference.",
        stages=(GPT, DPO, SOVITS, CFM),
        start=("gpt-v2", "sovits-v2"),
        reasons=_REASONS,
        packages=(
            Package(name="peft"),
            _language("pypinyin", "zh", reads="Chinese"),
            _language("pyopenjtalk-plus", "ja", reads="Japanese", module="pyopenjtalk"),
            _language("mecab-python3", "ko", reads="Korean", module="MeCab"),
            _language("ToJyutping", "yue", reads="Cantonese"),
        ),
    )


@hookimpl
def tts_train_strategy(stage: Stage, name: str) -> Strategy | None:
    """Build ``ddp`` for stages whose losses do not reach every parameter: generator and critics take turns."""
    if name != "ddp" or stage.name not in (SOVITS.name, CFM.name):
        return None
    from lightning.pytorch.strategies import DDPStrategy

    return DDPStrategy(find_unused_parameters=True)
