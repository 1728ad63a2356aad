"""One trial of each fault that every side can meet; each returns what happened as one row."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults_process import HUNG, fill, fork, last_line, run, size_of, small_disk, until, wait
from faults_sides import SCALE, Ours, Plan, Side, final, final_of, started_at, steps_done

Row = dict[str, Any]
HALF = 12
"""The step after which a run is damaged or changed."""


def names(folder: Path) -> set[str]:
    """Return the files of a run, without logs, whose names hold numbers of processes."""
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and "logs" not in f.parts}


def straight(side: Side, folder: Path, temporary: Path) -> Row:
    """Run without a fault: what the others are compared with."""
    child = fork(lambda: side.train(folder, side.plan), log=log_of(folder), temporary=temporary)
    until(lambda: bool(side.saved(folder)), child)
    began = time.monotonic()
    code = wait(child)
    if code:
        raise RuntimeError(f"{side.name} does not even run without a fault: {last_line(log_of(folder))}")
    seconds = time.monotonic() - began
    return {**final(folder), "seconds": seconds, "names": sorted(names(folder)), "left": size_of(temporary)}


def kill(side: Side, base: Row, folder: Path, temporary: Path, *, part: float) -> Row:
    """Kill -9 at a random moment after the first step, then continue."""
    child = fork(lambda: side.train(folder, side.plan), log=log_of(folder), temporary=temporary)
    wait_for_moment(side, base, folder, part, lambda condition: until(condition, child))
    os.kill(child, signal.SIGKILL)
    killed = wait(child)
    inside = bool(list(folder.rglob(".tmp-*")))
    return {**again(side, base, folder, temporary), "killed": killed == -signal.SIGKILL, "inside_a_save": inside}


def wait_for_moment(
    side: Side, base: Row, folder: Path, part: float, watch: Callable[[Callable[[], bool]], object]
) -> None:
    """Wait for a share of the steps, and for a share of one step more, however fast the machine is just now."""
    steps = 1 + part * (side.plan.steps - 2)
    watch(lambda: steps_done(folder) >= int(steps))
    time.sleep((steps % 1) * base["seconds"] / side.plan.steps)


def injected(side: Side, base: Row, folder: Path, temporary: Path, *, fault: str) -> Row:
    """Kill where ``--debug.inject`` says, then continue by the very same command."""
    plan = side.changed(inject=fault)
    killed = run(lambda: side.train(folder, plan), log=log_of(folder), temporary=temporary)
    row = again(side, base, folder, temporary, plan=plan)
    return {**row, "killed": killed == -signal.SIGKILL}


def damage(side: Side, base: Row, folder: Path, temporary: Path, *, file: str, how: str) -> Row:
    """Damage one file of the checkpoint that the side would continue from, then continue."""
    first_half(side, folder, temporary)
    checkpoint = side.newest(folder)
    spoil(side.files(checkpoint)[file], how, other=side.files(checkpoint))
    row = again(side, base, folder, temporary)
    named = checkpoint.name in log_of(folder).read_text(encoding="utf-8", errors="replace")
    aside = checkpoint.with_name(f"{checkpoint.name}.corrupt").exists()
    return {**row, "what": f"{file}: {how}", "named": named, "set_aside": aside}


def spoil(path: Path, how: str, *, other: dict[str, Path]) -> None:
    """Cut a file to a percentage, flip one bit at a percentage, remove it or swap it with another."""
    word, _, number = how.partition(" ")
    if word == "cut":
        os.truncate(path, int(path.stat().st_size * int(number) / 100))
    elif word == "flip":
        data = bytearray(path.read_bytes())
        data[int(len(data) * int(number) / 100)] ^= 0x10
        path.write_bytes(data)
    elif word == "gone":
        path.unlink()
    else:
        target = other[number]
        path.rename(path.with_suffix(".x"))
        target.rename(path)
        path.with_suffix(".x").rename(target)


def signalled(side: Side, base: Row, folder: Path, temporary: Path, *, number: int, part: float) -> Row:
    """Ask the run to stop at a random time; checkpoints come every ten steps only."""
    plan = side.changed(every=10)
    child = fork(lambda: side.train(folder, plan), log=log_of(folder), temporary=temporary)
    wait_for_moment(side, base, folder, part, lambda condition: until(condition, child))
    os.kill(child, number)
    code = wait(child)
    row = again(side, base, folder, temporary, plan=plan)
    return {**row, "exit": code, "what": signal.Signals(number).name}


def full_disk(side: Side, base: Row, folder: Path, temporary: Path) -> Row:
    """Fill the disk under a run; make room; continue."""
    with small_disk(folder, SCALE) as mounted:
        if not mounted:
            return {"skipped": "a small file system cannot be mounted here (needs root)"}
        child = fork(lambda: side.train(folder, side.plan), log=log_of(folder), temporary=temporary)
        until(lambda: steps_done(folder) >= HALF, child)
        filler = fill(folder)
        code = wait(child)
        said = last_line(log_of(folder))
        partial = size_of(temporary)
        filler.unlink()
        return {**again(side, base, folder, temporary), "exit": code, "said_first": said, "left_in_tmp": partial}


def no_room(side: Side, _base: Row, folder: Path, temporary: Path) -> Row:
    """Start on a disk that has no room for the checkpoints; ends before the first step."""
    with small_disk(folder, 2) as mounted:
        if not mounted:
            return {"skipped": "a small file system cannot be mounted here (needs root)"}
        code = run(lambda: side.train(folder, side.plan), log=log_of(folder), temporary=temporary)
        return {"exit": code, "steps": steps_done(folder), "said": last_line(log_of(folder))}


def not_finite(side: Side, _base: Row, folder: Path, temporary: Path, *, at: tuple[int, ...]) -> Row:
    """Make gradients NaN at some steps."""
    code = run(lambda: side.train(folder, side.changed(nan_at=at)), log=log_of(folder), temporary=temporary)
    told = final(folder)
    what = f"NaN gradient at {len(at)} step{'s' if len(at) > 1 else ''}"
    return {"exit": code, "what": what, "finite": told.get("finite"), "said": last_line(log_of(folder))}


def two_writers(side: Side, base: Row, folder: Path, temporary: Path) -> Row:
    """Start the same command twice, 50 ms apart."""
    logs = [log_of(folder), log_of(folder).with_suffix(".second")]
    first = fork(lambda: side.train(folder, side.plan), log=logs[0], temporary=temporary)
    time.sleep(0.05)
    second = fork(lambda: side.train(folder, side.plan), log=logs[1], temporary=temporary)
    codes = sorted([wait(first), wait(second)])
    exact = final(folder).get("weights") == base["weights"]
    return {"exit": codes, "exact": exact, "said": [last_line(log) for log in logs]}


def other_rate(side: Side, _base: Row, folder: Path, temporary: Path) -> Row:
    """Continue with another learning rate."""
    first_half(side, folder, temporary)
    code = run(lambda: side.train(folder, side.changed(lr=0.002)), log=log_of(folder), temporary=temporary)
    told = log_of(folder).read_text(encoding="utf-8", errors="replace")
    return {"exit": code, "applied": final(folder).get("lr") == 0.002, "said": "0.01 -> 0.002" in told}


def again(side: Side, base: Row, folder: Path, temporary: Path, *, plan: Plan | None = None) -> Row:
    """Run the same command again, and say what came of it."""
    whole = all_whole(side, folder)
    before = steps_done(folder)
    log = log_of(folder)
    began = time.monotonic()
    code = run(lambda: side.train(folder, plan or side.plan), log=log, temporary=temporary)
    told = final(folder)
    survived = code == 0 and told.get("step") == side.plan.steps and bool(told.get("finite"))
    row: Row = {
        "survived": survived,
        "exact": survived and told["weights"] == base["weights"],
        "whole": whole,
        "again": "hung" if code == HUNG else code,
        "seconds": round(time.monotonic() - began, 2),
        "leaked": size_of(temporary) - base["left"] + leftovers(folder, base, survived=survived),
    }
    return {**row, "lost": before - started_at(folder)} if survived else {**row, "said": last_line(log)}


def all_whole(side: Side, folder: Path) -> bool | None:
    """Whether each of our checkpoints is as it was written, right after the fault; peers have nothing to check by."""
    from tts_train.checkpoints.folder_io import verify
    from tts_train.errors import DataError

    if not isinstance(side, Ours):
        return None
    try:
        return all(verify(path) for path in side.saved(folder))
    except DataError:
        return False


def leftovers(folder: Path, base: Row, *, survived: bool) -> int:
    """Return the bytes of files that an undisturbed run does not leave; damaged checkpoints set aside do not count."""
    if not survived:
        return 0
    extra = [name for name in names(folder) - set(base["names"]) if ".corrupt" not in name and ".injected" not in name]
    return sum((folder / name).stat().st_size for name in extra if _is_temporary(name))


def _is_temporary(name: str) -> bool:
    return any(part.startswith((".tmp", "tmp")) for part in Path(name).parts)


def first_half(side: Side, folder: Path, temporary: Path) -> None:
    """Train to HALF and forget that it ended well."""
    if run(lambda: side.train(folder, side.changed(steps=HALF)), log=log_of(folder), temporary=temporary):
        raise RuntimeError(f"{side.name} does not reach step {HALF}: {last_line(log_of(folder))}")
    final_of(folder).unlink()


def log_of(folder: Path) -> Path:
    """Where a run's processes speak into."""
    return folder.with_name(f"{folder.name}.log")


def parts(count: int, *, seed: int) -> list[float]:
    """Return moments to kill at, as shares of the training time, evenly spread and shaken."""
    chance = random.Random(seed)
    return [(i + chance.random()) / count * 0.9 for i in range(count)]


def clean(folder: Path, temporary: Path) -> None:
    """Remove what a trial left."""
    for path in folder.parent.glob(f"{folder.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(temporary, ignore_errors=True)


def facts(row: Row) -> str:
    """Spell a row for the log."""
    return json.dumps({k: v for k, v in row.items() if k not in ("names",)}, default=str)
