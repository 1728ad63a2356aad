"""Gather what a bare machine with a card lacks, into a folder that git ignores: `make gpu-wheels`.

    python benchmarks/gpu_wheels.py                        # wheels for CPython 3.12, plans, references, bases
    python benchmarks/gpu_wheels.py --python-version 3.11 --to DIR --only wheels  # for a dry run: gpu.py --carried DIR
    python benchmarks/gpu_wheels.py --only plans           # make the plans again

Asked of that machine: CPython, torch, torchaudio, transformers, lightning, peft, pluggy, pyarrow, tensorboard. All else
that tts-train needs is downloaded at the versions of constraints.txt, by pip, as wheels. bitsandbytes keeps its
libraries for CUDA 13.0 and CPUs, so that all of it and the tree stay below 60 MiB.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gpu_blocks.job import ROOT, WHEELS
from gpu_blocks.requirements import lacking, pinned
from gpu_blocks.versions import revision

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"]
LIBRARY = "libbitsandbytes_"
KEPT = ("cuda130", "cpu")
"""Which of bitsandbytes' libraries stay: that of the CUDA that torch 2.11 is built for, and that for CPUs."""
MOST_MIB = 60


def main() -> None:
    """Gather everything, or what was asked for, and say how much it is."""
    arguments = _arguments()
    to: Path = arguments.to.resolve()
    to.mkdir(parents=True, exist_ok=True)
    (to / "revision.txt").write_text(revision() + "\n", encoding="utf-8")
    if "wheels" in arguments.only:
        _download(arguments.python_version, to)
    if "references" in arguments.only:
        from gpu_blocks.references import write_references

        write_references(to)
    if "plans" in arguments.only:
        from gpu_blocks.plans import write_plans

        write_plans(to)
    _say_size(to)


def _download(version: str, to: Path) -> None:
    for old in to.glob("*.whl"):
        old.unlink()
    names, pins = lacking(version), pinned(version)
    if missing := sorted(names - set(pins)):
        raise SystemExit(f"constraints.txt has no version of {', '.join(missing)}; add one.")
    for name in sorted(names):
        _fetch(f"{name}=={pins[name]}", version, to)
    for wheel in to.glob("bitsandbytes-*.whl"):
        cut(wheel)


def _fetch(wanted: str, version: str, to: Path) -> None:
    """Download a wheel; where there is only a source distribution, of plain Python, build it."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q", "--no-deps", "-d"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    binary = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version, *platforms]
    done = subprocess.run([*command, str(to), *binary, wanted], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "-q", "--no-deps", "-w", folder]
        subprocess.run([*build, wanted], check=True)
        for built in Path(folder).glob("*.whl"):
            if not built.name.endswith("-none-any.whl"):
                raise SystemExit(
                    f"{wanted} has no wheel for Python {version}, and is not of plain Python:\n{done.stderr}"
                )
            shutil.move(built, to / built.name)


def cut(wheel: Path) -> None:
    """Rewrite bitsandbytes' wheel without the libraries for other versions of CUDA, its record of files included."""
    smaller = wheel.with_suffix(".cut")
    record: list[str] = []
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for item in old.infolist():
            name = Path(item.filename).name
            if item.filename.endswith(".dist-info/RECORD"):
                place = item.filename
                continue
            if name.startswith(LIBRARY) and name.removeprefix(LIBRARY).split(".")[0] not in KEPT:
                continue
            content = old.read(item)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{item.filename},sha256={digest},{len(content)}")
            new.writestr(item.filename, content)
        new.writestr(place, "\n".join([*record, f"{place},,"]) + "\n")
    smaller.replace(wheel)


def tree_bytes(root: Path) -> int:
    """Return the size of what travels of a working tree: its tracked files as they are now, and untracked ones."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = {root / name for name in listed.split("\0") if name}
    return sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())


def _say_size(to: Path) -> None:
    carried = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    tree = tree_bytes(ROOT)
    total = (carried + tree) / 1024**2
    told = {"carried_mib": round(carried / 1024**2, 1), "tree_mib": round(tree / 1024**2, 1)}
    print(json.dumps({**told, "total_mib": round(total, 1), "most_mib": MOST_MIB}))
    if total > MOST_MIB:
        raise SystemExit(f"That is more than {MOST_MIB} MiB: the tree and {to.name} would not travel.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python-version", default="3.12", help="for which CPython the wheels are")
    parser.add_argument("--to", type=Path, default=WHEELS, help="folder that is filled")
    parts = ("wheels", "references", "plans")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="what of it to gather")
    return parser.parse_args()


if __name__ == "__main__":
    main()
