"""One acceptance run on a CUDA card: does it work, how fast is it, does it need what the plan says. Two commands.

    make gpu-wheels                        # first, on a machine with a network: fills .gpu-wheels/
    python3 benchmarks/gpu.py --call A     # on the machine with the card, 450 s
    python3 benchmarks/gpu.py --call B     # at once after it, 300 s

The machine may be bare: CPython 3.12, torch 2.11 for CUDA 13, torchaudio, transformers 5, lightning, peft, pluggy,
pyarrow and tensorboard. The tracked files and ``.gpu-wheels/`` must travel, under 60 MiB together; nothing is
installed outside ``--work`` and nothing is fetched. Results go to ``--out`` (the environment variable OUT where it is
set, else ``benchmarks/results/NAME``) line by line: ``results.jsonl``, ``table.md``, ``profile.txt``, ``pytest.txt``
(each failure when it happens) and ``log.txt``. Two calls with the same folder make one table; where OUT is new for
each, append one ``results.jsonl`` to a copy of the other and write the table again with ``--report``. Of a block that
ran twice its last run counts. Each block runs in processes of its own under a time limit, so that one which fails or
hangs hides no other. Recipes and levers have limits of their own, and what is left of them goes on in a new process.
Exit code 1, with a list, if an acceptance criterion fails, a block does not come to its end, or the run is
interrupted; 2 if nothing could be started.

Call A runs steps 0, 4, 5, 3, 7, 8, 12, 1: first what the two runs so far, of an H200 (benchmarks/README.md, "On a
GPU"), did not reach or not finish. Call B runs steps 11, 10, 9, 6. ``--blocks attention`` is for another kind of card:
that run has told it to the end. Only one call possible: ``--call one`` (steps 0, 4, 5, 3, 11, 6). Single blocks:
``--blocks recipes speech``. A dry run without a card, whose figures mean nothing: ``--device cpu --tiny``.

| step | block | call | s | accepted when (source) |
| --- | --- | --- | --- | --- |
| 0 | start | A | 20 | doctor has no FAIL, bitsandbytes serves the card, every module imports |
| 1 | ceilings | A | 20 | figures only: what the card can do; output rows of 156,940 against padded ones |
| 2 | attention | alone | 25 | no cuDNN kernel by default (it builds a graph for each new shape) |
| 3 | kernels | A | 80 | tests marked gpu; tolerances against float64, float32 and the CPU |
| 4 | cpu_against_gpu | A | 55 | losses of 20 steps (SoVITS: 4): 1e-4 in float32, 1e-2 in bfloat16; float16's scale |
| 5 | continuation | A | 60 | equal hashes, killed or not (docs/reliability.md) |
| 6 | recipes | B | 90 | tensors within 5 % of the plan's, memory in use within its "in all" (docs/planning.md) |
| 7 | profiling | A | 48 | no host wait in a step that logs nothing; idle under 5 % at 8,192 tokens |
| 8 | peers | A | 50 | faster and smaller than transformers + PEFT; the same loss at step 1 |
| 9 | levers | B | 60 | figures only: one lever at a time |
| 10 | sovits | B | 45 | losses finite, tensors within 5 % of the plan's, at the released sizes |
| 11 | speech | B | 50 | 82 tokens/s, which keeps up; the same ids again and in a batch; codes as on a CPU |
| 12 | saves | A | 30 | continues; auto finds a size; refusals say what to do (docs/planning.md) |
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

from gpu_blocks.catalogue import BUDGETS, BY_NAME, CALLS, LEAST, NAMES, TO_WRITE, Block
from gpu_blocks.environment import PrepareError, carried_names, missing, prepare
from gpu_blocks.job import WHEELS
from gpu_blocks.record import LOST, MOST_BYTES, RESULTS, RUN, WHOLE, Record, ended_parts
from gpu_blocks.table import TABLE, write_table
from gpu_blocks.versions import write_versions

LOG = "log.txt"
DRY_LIMIT = 400
"""Seconds a block may take on a CPU."""


def main() -> int:
    """Run the blocks that were asked for and write the table; 1 if something failed."""
    arguments = _arguments()
    out: Path = arguments.out
    if arguments.report:
        return _told(out)
    if refusals := _refusals(arguments):
        print("\n".join(refusals), file=sys.stderr)
        return 2
    begun = time.monotonic()
    names = arguments.blocks or CALLS.get(arguments.call, (*CALLS["A"], *CALLS["B"]))
    budget = arguments.budget or BUDGETS.get(arguments.call, 3600)
    waiting = [BY_NAME[name] for name in names]
    record, why = Record(out, RUN), ""
    record.began()
    signal.signal(signal.SIGTERM, _interrupt)  # a limit around this command ends it so
    signal.signal(signal.SIGINT, _interrupt)
    try:
        environment = _environment(arguments)
        write_versions(record, environment)
        while waiting:
            left = budget - TO_WRITE - (time.monotonic() - begun)
            _run(waiting.pop(0), arguments, environment, left=left)
    except KeyboardInterrupt:
        why = f"interrupted after {time.monotonic() - begun:.0f} s"
        record.figure("stopped", why)
    except PrepareError as error:
        why = str(error)
        record.failure("preparing", why)
    for block in waiting:
        Record(out, block.name).skipped(WHOLE, why)
    return _told(out) or int(bool(why))


def _refusals(arguments: argparse.Namespace) -> list[str]:
    """Return why a run would come to nothing here, which is better known before time on a card is spent."""
    found = _no_card(arguments.carried) if arguments.device == "cuda" else []
    if arguments.budget is not None and arguments.budget <= 0:
        found.append(f"--budget is a number of seconds above 0, and {arguments.budget:g} was given.")
    for option, folder in () if found else (("--out", arguments.out), ("--work", arguments.work)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found.append(f"{option} {folder} cannot be made a folder: {error.strerror}. Give another.")
    return found


def _no_card(carried: Path) -> list[str]:
    found = []
    if lacking := missing(carried):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        found += [
            f"Neither {sys.executable} (Python {version}) nor {carried} has {', '.join(lacking)}.",
            "Type `make gpu-wheels` on a machine with a network (for this Python: `python benchmarks/gpu_wheels.py",
            f"--python-version {version}`), and let .gpu-wheels/, which git ignores, travel with the tree.",
            "What the head of this file asks of the machine, torch first, must be in its image.",
        ]
    if not _has_driver():
        found.append("No NVIDIA driver is on this machine. A dry run without a card: --device cpu --tiny")
    return found


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    only = None
    if arguments.bare:
        from gpu_blocks.requirements import bare, lacking

        only = bare() | (lacking() - carried_names(arguments.carried))
    return prepare(arguments.work, carried=arguments.carried, only=only)


def _has_driver() -> bool:
    """Tell whether CUDA's driver is there, without importing torch."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _run(block: Block, arguments: argparse.Namespace, environment: dict[str, str], *, left: float) -> None:
    """Run one block under its limit, in a further process for what is left of it if its first one was lost."""
    record = Record(arguments.out, block.name)
    if left < min(block.seconds, LEAST) and not arguments.tiny:
        record.skipped(WHOLE, f"{left:.0f} s of the budget are left, and it needs about {block.seconds}")
        return
    limit = DRY_LIMIT if arguments.tiny else min(block.limit, left)
    record.began()
    begun, used = time.monotonic(), _cpu_seconds()
    finished: list[str] = []
    while True:
        code = _process(block, arguments, environment, finished, limit - (time.monotonic() - begun))
        before, finished = finished, ended_parts(arguments.out, block.name)
        if code != LOST or not block.resumes or len(finished) <= len(before):
            break
    seconds = round(time.monotonic() - begun, 1)
    ended = "out of time" if code is None else "failed" if code else "done"
    record.status(ended, seconds=seconds, cpu_seconds=round(_cpu_seconds() - used, 1), code=code)


def _process(
    block: Block, arguments: argparse.Namespace, environment: dict[str, str], finished: list[str], limit: float
) -> int | None:
    """Run a block in a process group of its own, end the group, and return the exit code; None if it took too long."""
    told = {"block": block.name, "device": arguments.device, "tiny": arguments.tiny, "out": str(arguments.out)}
    told |= {"work": str(arguments.work), "carried": str(arguments.carried), "finished": finished}
    told["limit"] = max(0.0, limit)
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
            return process.wait(timeout=max(0.0, limit))
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


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
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # what is left to do is to write down how far it came
    raise KeyboardInterrupt


def _told(out: Path) -> int:
    if not (out / RESULTS).exists():
        print(f"{out} has no {RESULTS}: no run wrote there.", file=sys.stderr)
        return 2
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
