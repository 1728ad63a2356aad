"""From recordings to a sound: prepare, train, kill, continue, compare, export, speak, and look at it all."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tts_train.backend import Demo, Stage
from tts_train.demo.commands import run, start
from tts_train.errors import ConfigError
from tts_train.plugins import Plugins
from tts_train.recipes import find_recipe

VOICE = Path(__file__).parent / "voice"
SENTENCE = "Good morning, this is the sound of a small model."


def show(backend: str, out: Path, *, blocked: Sequence[str] = ()) -> dict[str, Any]:
    """Show every stage of ``backend`` that has a demo, in order.

    Args:
        backend: the backend's name.
        out: folder for everything; what an earlier demo left there is replaced.
        blocked: plugins to leave out.

    Returns:
        What was done and measured; ``promises_kept`` says whether the continued run equals the uninterrupted one and
        the validation loss fell by more than half.

    Raises:
        ConfigError: if the backend has no demo, or ``out`` holds something else.
    """
    began = time.monotonic()
    stages = [stage for stage in Plugins(blocked=blocked).load(backend).stages if stage.demo]
    if not stages:
        raise ConfigError(f"Backend {backend!r} has no demo.")
    _clear(out)
    report: dict[str, Any] = {}
    for stage in stages:
        report.update(_show_stage(backend, stage, out))
    return {**report, "minutes": round((time.monotonic() - began) / 60, 2), "folder": str(out)}


def _show_stage(backend: str, stage: Stage, out: Path) -> dict[str, Any]:
    demo, which = stage.demo, ["--backend", backend, "--stage", stage.name]
    assert demo is not None
    prepared, interrupted, straight = out / "prepared", out / "run", out / "uninterrupted"
    with _said(f"prepare: the sample voice in {VOICE} to training features"):
        data = run(["prepare", *which, "--corpus", str(VOICE), "--out", str(prepared), *demo.prepare, "--json"])
    fit = ["fit", *which, "-c", str(find_recipe(backend, demo.recipe)), "--data.path", str(prepared)]
    whole = start([*fit, "--run_dir", str(straight)])
    with _said(f"fit: kill -9 at step {demo.kill_at}; beside it an uninterrupted run, to compare with"):
        run(
            [*fit, "--run_dir", str(interrupted), "--debug.inject", f"kill@step={demo.kill_at}"],
            expected=-signal.SIGKILL,
        )
    with _said("fit: the same command again"):
        run([*fit, "--run_dir", str(interrupted)])
    with _said("fit: waiting for the uninterrupted run"):
        whole.wait()
    exported = _export(which, demo, interrupted, out)
    spoken = _speak(which, demo, exported or interrupted, out, interrupted)
    return {"rows": data["rows"], "hours": data["hours"], **_judge(interrupted, straight), **spoken}


def _export(which: Sequence[str], demo: Demo, source: Path, out: Path) -> Path | None:
    folders = [out / "export" / name for name in demo.formats]
    for name, folder in zip(demo.formats, folders, strict=True):
        with _said(f"export: {name}, read back and compared"):
            run(["export", str(source), *which, "--format", name, "--out", str(folder), "--json"])
    return folders[0] if folders else None


def _speak(which: Sequence[str], demo: Demo, source: Path, out: Path, run_dir: Path) -> dict[str, Any]:
    from tts_train.report.spoken import keep_spoken

    wave = out / "spoken.wav"
    with _said("synth: a sentence that was not in the training data"):
        told = run(["synth", str(source), *which, "--text", SENTENCE, "--out", str(wave), *demo.synth, "--json"])
    with _said("report: curves, pictures and players on one page"):
        page = keep_spoken(
            run_dir, wave, name="unseen", text=f"{SENTENCE} ({demo.remark})" if demo.remark else SENTENCE
        )
    return {"spoken": str(wave), "spoken_seconds": told["seconds"], "remark": demo.remark, "report": str(page)}


def _judge(interrupted: Path, straight: Path) -> dict[str, Any]:
    from tts_train.report.history import History, series
    from tts_train.run.checkpoint import open_checkpoint

    hashes = [_weights_hash(open_checkpoint(path).weights()) for path in (interrupted, straight)]
    losses = [entry.value for entry in series(History(interrupted).entries())["val/loss"]]
    exact, halved = hashes[0] == hashes[1], losses[-1] < losses[0] / 2
    return {
        "val_loss": {"before": losses[0], "after": losses[-1]},
        "val_loss_halved": halved,
        "weights_hash": hashes[0],
        "weights_hash_uninterrupted": hashes[1],
        "continued_exactly": exact,
        "promises_kept": exact and halved,
    }


def _weights_hash(weights: Mapping[str, Any]) -> str:
    import torch
    import xxhash

    digest = xxhash.xxh3_128()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _clear(out: Path) -> None:
    marker = out / ".tts-train-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise ConfigError(f"{out} is not empty and no demo made it. Choose another folder with --out.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()


@contextmanager
def _said(what: str) -> Iterator[None]:
    began = time.monotonic()
    sys.stderr.write(f"{what} ... ")
    sys.stderr.flush()
    yield
    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")
