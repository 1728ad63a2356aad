"""What the blocks' processes see: the tree without installing it, the carried wheels, and nothing else if so asked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from gpu_blocks.job import ROOT, WHEELS

PACKAGES = ("core", "plugins/orpheus", "plugins/gpt_sovits", "plugins/qwen3_tts", "benchmarks", ".")
BARE = ("torch", "torchaudio", "transformers", "lightning", "peft", "pluggy", "pyarrow", "tensorboard", "pip")
"""What is asked of a rented machine's image; what these need is there, too."""
BESIDES = ("pytest", "pytest-timeout", "pytest-xdist", "torchao")
"""What the blocks need beyond tts-train's own dependencies: the tests marked gpu, and 8-bit floats."""


class PrepareError(RuntimeError):
    """The carried wheels could not be installed; the message is one line."""


def prepare(work: Path, *, carried: Path = WHEELS, only: set[str] | None = None) -> dict[str, str]:
    """Return the environment variables of the blocks' processes.

    Args:
        work: Folder for what is unpacked.
        carried: Folder with wheels; those for this Python are installed below ``work``, once.
        only: Names of distributions that may be seen besides the tree and the wheels; None for all that is installed.

    Raises:
        PrepareError: if the wheels could not be installed.
    """
    site = _install(work, carried)
    _announce(site)
    path = [*(str(ROOT / name) for name in PACKAGES), str(site)]
    extra: dict[str, str] = {}
    if only is not None:
        path.insert(0, str(Path(__file__).parent / "bare"))
        extra["GPU_BLOCKS_HIDDEN"] = str(_hidden(work, only))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # looking for a card must not open it: block 5 forks afterwards
        "TMPDIR": str(work),
        **extra,
    }


def _install(work: Path, carried: Path) -> Path:
    wheels = sorted(path for path in carried.glob("*.whl") if fits(path.name))
    digest = hashlib.sha256("\n".join(path.name for path in wheels).encode()).hexdigest()[:12]
    site = work / f"site-{sys.version_info[0]}{sys.version_info[1]}-{digest}"
    done = site / ".complete"
    if not done.exists():
        site.mkdir(parents=True, exist_ok=True)
        if wheels:
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
            command += ["--disable-pip-version-check", "--upgrade", "--target", str(site)]
            tried = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True, check=False)
            if tried.returncode:
                raise PrepareError(_why(tried.stderr, carried))
        done.touch()
    return site


def _why(said: str, carried: Path) -> str:
    if "No module named pip" in said:
        return f"{sys.executable} has no pip to install the wheels with: python3 -m ensurepip"
    last = (said.strip().splitlines() or ["pip said nothing"])[-1]
    return f"the wheels of {carried} could not be installed: {last}"


def fits(name: str) -> bool:
    """Tell whether a wheel is for this Python: for any, for the stable interface, or for this version."""
    python, abi, _ = name.removesuffix(".whl").split("-")[-3:]
    if abi == "abi3":
        return int(python.split(".")[0].removeprefix("cp3")) <= sys.version_info[1]
    return abi == "none" or f"cp{sys.version_info[0]}{sys.version_info[1]}" in python.split(".")


def carried_names(carried: Path) -> set[str]:
    """Return the distributions of the carried wheels that are for this Python."""
    return {canonical(path.name.split("-")[0]) for path in carried.glob("*.whl") if fits(path.name)}


def missing(carried: Path) -> list[str]:
    """Return what tts-train and the blocks need, and neither this Python nor a carried wheel for it has."""
    there = carried_names(carried)
    wanted = {canonical(re.split(r"[^\w.-]", need)[0]) for need in (*dependencies(), *BESIDES)}
    return sorted(name for name in wanted - there if not _is_there(name))


def _is_there(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return find_spec(name.replace("-", "_")) is not None
    return True


def dependencies() -> list[str]:
    """Return what pyproject.toml asks for without extras."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = text.split("\ndependencies = [")[1].split("\n]")[0]
    return re.findall(r'^\s*"([^"]+)"', listed, re.MULTILINE)


def _announce(site: Path) -> None:
    """Write the metadata by which tts-train finds its backends, as installing the tree would."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.findall(r'^version = "(.+)"', text, re.MULTILINE)[0]
    group = text.split('[project.entry-points."tts_train.backends"]')[1].split("[")[0]
    points = "\n".join(line.replace('"', "") for line in group.strip().splitlines())
    folder = site / f"tts_train-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tts-train\nVersion: {version}\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text(f"[tts_train.backends]\n{points}\n", encoding="utf-8")


def _hidden(work: Path, only: set[str]) -> Path:
    """Write which installed distributions, and which modules of theirs alone, are not to be seen."""
    owners: dict[str, set[str]] = {}
    names: set[str] = set()
    for each in distributions():
        name = canonical(each.metadata["Name"] or "")
        names.add(name)
        for file in each.files or ():
            top = file.parts[0].removesuffix(".py").split(".")[0]
            if (len(file.parts) > 1 and file.suffix in (".py", ".so")) or (
                len(file.parts) == 1 and file.suffix == ".py"
            ):
                owners.setdefault(top, set()).add(name)
    modules = sorted(top for top, every in owners.items() if not every & only)
    path = work / "hidden.json"
    path.write_text(json.dumps({"distributions": sorted(names - only), "modules": modules}), encoding="utf-8")
    return path


def canonical(name: str) -> str:
    """Return a distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
