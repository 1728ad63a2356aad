"""Step 9: one lever at a time, on full fine-tuning and LoRA at 8,192 tokens."""

from __future__ import annotations

from gpu_blocks.fits import release
from gpu_blocks.job import Job
from gpu_blocks.recipes import Run, measure, report
from gpu_blocks.timing import limit

SECONDS, FIRST_SECONDS = 12, 30
"""Most that one lever may take, and the first one, which opens the card and compiles kernels that the others use too.

Compiling may not come to an end; one lever that hangs leaves time for the others.
"""
_FULL, _LORA = Run("lm-full-24gb", 8192, 6), Run("lm-lora", 8192, 6)
LEVERS: tuple[tuple[str, Run, tuple[str, ...]], ...] = (
    ("full, as the recipe is", _FULL, ()),
    ("full, eager kernels", _FULL, ("--model.kernels", "eager")),
    ("full, fused kernels", _FULL, ("--model.kernels", "fused")),
    ("full, half of the layers recomputed", _FULL, ("--model.checkpoint_share", "0.5")),
    ("full, nothing recomputed", _FULL, ("--model.gradient_checkpointing", "false")),
    ("full, nearest rounding", _FULL, ("--model.optimizer.rounding", "nearest")),
    ("full, chunks of 2,048", _FULL, ("--model.head.chunk_tokens", "2048")),
    ("lora, as the recipe is", _LORA, ()),
    ("lora, eager kernels", _LORA, ("--model.kernels", "eager")),
    ("lora, fused kernels", _LORA, ("--model.kernels", "fused")),
    ("lora, half of the layers recomputed", _LORA, ("--model.checkpoint_share", "0.5")),
    ("lora, nothing recomputed", _LORA, ("--model.gradient_checkpointing", "false")),
    ("lora, no data workers", _LORA, ("--data.num_workers", "0")),
    ("full, float8 tensorwise", _FULL, ("--model.float8.recipe", "tensorwise")),
)
_DRY = ("lora, eager kernels",)


def run(job: Job) -> None:
    """Run them; one that is no option of this version, or does not come to its end, is named."""
    seconds = FIRST_SECONDS
    for name, base, words in LEVERS:
        if job.tiny and name not in _DRY:
            job.record.skipped(name, "one lever is enough for a dry run")
            continue
        if words and not known(words[0]):
            job.record.skipped(name, f"{words[0]} is no option of this version")
            continue
        if name in job.finished:
            continue
        most = seconds * (10 if job.tiny else 1)
        # The second limit is for a wait that the first cannot interrupt, and costs the process.
        with job.record.part(name, limit=most + 5), limit(most):
            measured = measure(job, base, *words)
            report(job, name, measured)
            release(job, measured)
        seconds = SECONDS


def known(option: str) -> bool:
    """Tell whether Orpheus's module takes an option."""
    import inspect

    from tts_train.families.token_lm.module import TokenModule

    names = option.removeprefix("--").split(".")
    return names[0] != "model" or names[1] in inspect.signature(TokenModule.__init__).parameters
