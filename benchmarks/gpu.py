"""One acceptance run on a CUDA card: does it work, how fast is it, does it need what the plan says. Two commands.

    make gpu-wheels                        # first, on a machine with a network: fills .gpu-wheels/
    python3 benchmarks/gpu.py --call A     # on the machine with the card, 420 s
    python3 benchmarks/gpu.py --call B     # at once after it, 300 s; both write to one table

The machine may be bare: CPython 3.12, torch 2.11 for CUDA 13, torchaudio, transformers 5, lightning, peft, pluggy,
pyarrow and tensorboard. The tracked files and ``.gpu-wheels/`` must travel, under 60 MiB together; nothing is installed
outside ``--work`` and nothing is fetched. Results go to ``--out`` (the environment variable OUT where it is set, else
``benchmarks/results/NAME``) line by line: ``results.jsonl``, ``table.md``, ``profile.txt`` and ``log.txt``. Each block
runs in processes of its own under a time limit; what fails or hangs hides nothing else. Exit code 1, with a list, if an
acceptance criterion fails.

Only one call possible: ``--call one`` (steps 0, 1, 2, 3, 5, 6, 11). Single blocks: ``--blocks recipes speech``. A dry
run without a card, whose figures mean nothing: ``--device cpu --tiny``. The table again: ``--report`` (where the calls
wrote to different folders, append one ``results.jsonl`` to the other first).

| step | block | call | s | accepted when (source) |
| --- | --- | --- | --- | --- |
| 0 | start | A | 15 | doctor has no FAIL, bitsandbytes serves the card, every module imports |
| 1 | ceilings | A | 20 | figures only: what the card can do; output rows of 156,940 against padded ones |
| 2 | attention | A | 15 | no cuDNN kernel by default (it builds a graph for each new shape) |
| 3 | kernels | A | 80 | tests marked gpu; tolerances against float64, float32 and the CPU |
| 4 | cpu_against_gpu | A | 60 | losses of 20 steps within 1e-4 in float32, 1e-2 in bfloat16; float16's scale |
| 5 | continuation | A | 60 | equal hashes, killed or not (docs/reliability.md) |
| 6 | recipes | A | 130 | tensors within 5 % of the plan's, memory in use within its "in all" (docs/planning.md) |
| 7 | profiling | A | 30 | no host wait in a step that logs nothing; idle under 5 % at 8,192 tokens |
| 8 | peers | B | 50 | faster and smaller than transformers + PEFT; the same loss at step 1 |
| 9 | levers | B | 60 | figures only: one lever at a time |
| 10 | sovits | B | 45 | losses finite, tensors within 5 % of the plan's, at the released sizes |
| 11 | speech | B | 50 | 82 tokens/s, which keeps up; the same ids again and in a batch; codes as on a CPU |
| 12 | saves | B | 30 | continues; auto finds a size; refusals say what to do (docs/planning.md) |
| 13 | table | both | | |

Speeds leave out the first three steps and wait for the card at both ends only. Weights are made on the card: neither
speed nor memory depends on their values. Peak shares are of the maker's dense bf16 figure, without recomputation.
Anchor: torchtune's own figures for Llama-3.2-3B on one A100: full 17.6 GiB at 6,960 tokens/s, LoRA 8.5 GiB at 8,210,
QLoRA 4.6 GiB at 8,035; its vocabulary is smaller by 28,684 rows.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from gpu_blocks.catalogue import BLOCKS, BUDGETS, BY_NAME, CALLS, NAMES, Block
from gpu_blocks.environment import carried_names, prepare
from gpu_blocks.job import WHEELS
from gpu_blocks.record import MOST_BYTES, Record
from gpu_blocks.table import TABLE, write_table
from gpu_blocks.versions import write_versions

LOG = "log.txt"
TO_WRITE = 5
"""Seconds kept for the table."""
DRY_LIMIT = 400
"""Seconds a block may take on a CPU."""


def main() -> int:
    """Run the blocks that were asked for and write the table; 1 if something failed."""
    arguments = _arguments()
    out: Path = arguments.out
    if arguments.report:
        return _told(out)
    if arguments.device == "cuda" and not _has_driver():
        print("No NVIDIA driver is on this machine. A dry run without a card: --device cpu --tiny", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    names = arguments.blocks or list(CALLS[arguments.call] if arguments.call else NAMES)
    budget = arguments.budget or (BUDGETS[arguments.call] if arguments.call else 3600)
    signal.signal(signal.SIGTERM, _interrupt)  # a limit around this command ends it so
    arguments.work.mkdir(parents=True, exist_ok=True)
    only = None
    if arguments.bare:
        from gpu_blocks.requirements import bare, lacking

        only = bare() | (lacking() - carried_names(arguments.carried))
    environment = prepare(arguments.work, carried=arguments.carried, only=only)
    write_versions(Record(out, "run"), environment)
    try:
        for block in (block for block in BLOCKS if block.name in names):
            _run(block, arguments, environment, left=budget - TO_WRITE - (time.monotonic() - begun))
    except KeyboardInterrupt:
        Record(out, "run").figure("stopped", f"after {time.monotonic() - begun:.0f} s")
    return _told(out)


def _has_driver() -> bool:
    """Tell whether CUDA's driver is there, without importing torch."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _run(block: Block, arguments: argparse.Namespace, environment: dict[str, str], *, left: float) -> None:
    """Run one block in a process group of its own, and end the group when its time is over."""
    record = Record(arguments.out, block.name)
    if left < block.seconds and not arguments.tiny:
        record.skipped("the whole block", f"{left:.0f} s of the budget are left, and it needs about {block.seconds}")
        return
    limit = DRY_LIMIT if arguments.tiny else min(block.limit, left)
    told = {"block": block.name, "device": arguments.device, "tiny": arguments.tiny, "out": str(arguments.out)}
    told |= {"work": str(arguments.work), "carried": str(arguments.carried)}
    begun, used = time.monotonic(), _cpu_seconds()
    with _log(arguments.out / LOG) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpu_blocks", json.dumps(told)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    seconds = round(time.monotonic() - begun, 1)
    ended = "out of time" if code is None else "failed" if code else "done"
    record.status(ended, seconds=seconds, cpu_seconds=round(_cpu_seconds() - used, 1), code=code)


def _cpu_seconds() -> float:
    """Return the processor time of all processes that have ended below this one."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _log(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > MOST_BYTES // 2:
        text = path.read_bytes()
        path.write_bytes(text[-MOST_BYTES // 4 :])
    return path.open("ab")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _told(out: Path) -> int:
    failed = write_table(out)
    print((out / TABLE).read_text(encoding="utf-8"))
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--call", choices=list(CALLS), help="the blocks of one call; all if neither this nor --blocks")
    parser.add_argument("--blocks", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--budget", type=float, help="seconds in all; blocks that do not fit are left out, and named")
    parser.add_argument("--name", default="gpu-latest", help="folder of benchmarks/results/ where --out is not given")
    parser.add_argument("--out", type=Path, help="where results go; default: $OUT, else benchmarks/results/NAME")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "tts-train-gpu", help="scratch folder"
    )
    parser.add_argument("--carried", type=Path, default=WHEELS, help="folder that make gpu-wheels filled")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps: a dry run")
    parser.add_argument("--bare", action="store_true", help="see only what a bare machine has, and the carried wheels")
    parser.add_argument("--report", action="store_true", help="write the table of --out again, and run nothing")
    arguments = parser.parse_args()
    given = arguments.out or os.environ.get("OUT") or Path(__file__).parent / "results" / arguments.name
    arguments.out = Path(given).resolve()
    arguments.work = arguments.work.resolve()
    return arguments


if __name__ == "__main__":
    sys.exit(main())
