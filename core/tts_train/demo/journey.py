"""From recordings to a sound: prepare, train, kill, continue, compare, export, speak, and look at it all."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tts_train.contract.backend import Demo, Stage
from tts_train.demo.commands import call, run, start
from tts_train.demo.heard import show_learned, speak_learned
from tts_train.errors import ConfigError
from tts_train.parallel.processes import KILLED
from tts_train.plugins import Plugins
from tts_train.recipes import find_recipe

VOICE = Path(__file__).parent / "voice"
SENTENCE = "Good morning, this is the sound of a small model."


def show(backend: str, out: Path, *, blocked: Sequence[str] = ()) -> dict[str, Any]:
    """Show every stage of ``backend`` that has a demo, in order.

    Args:
        backend: the backend's name.
        out: folder for everything; what an earlier demo of the same backend left there is replaced.
        blocked: plugins to leave out.

    Returns:
        What was done and measured, stage by stage; ``promises_kept`` says whether every continued run equals the
        uninterrupted one, every loss is as low as the stage says, and what should speak is understood.

    Raises:
        ConfigError: if the backend has no demo, or ``out`` holds something else.
    """
    began = time.monotonic()
    stages = [stage for stage in Plugins(blocked=blocked).load(backend).stages if stage.demo]
    if not stages:
        raise ConfigError(f"Backend {backend!r} has no demo.")
    _clear(out, backend, stages)
    sys.stderr.write(f"Everything lies in {out}\n")
    told: dict[str, dict[str, Any]] = {}
    prepared: dict[tuple[str, ...], Path] = {}
    for stage in stages:
        told[stage.name] = _show_stage(backend, stage, out, prepared)
    return {
        "stages": told,
        "promises_kept": all(
            one["continued_exactly"] and one["loss_as_expected"] and one.get("speaks") is not False
            for one in told.values()
        ),
        "minutes": round((time.monotonic() - began) / 60, 2),
        "folder": str(out),
    }


def _show_stage(backend: str, stage: Stage, out: Path, prepared: dict[tuple[str, ...], Path]) -> dict[str, Any]:
    demo, which = stage.demo, ["--backend", backend, "--stage", stage.name]
    assert demo is not None
    sys.stderr.write(f"\n{stage.name}: {stage.summary}\n")
    if demo.prepare not in prepared:
        prepared[demo.prepare] = _prepare(which, demo, out / ("prepared" if not prepared else f"prepared-{stage.name}"))
    folder = out / stage.name
    recipe = str(find_recipe(backend, demo.recipe))
    data = ["--data.path", str(prepared[demo.prepare])]
    fit = ["fit", *which, "-c", recipe, *data, *_filled(demo.fit, out)]
    interrupted, straight = folder / "run", folder / "uninterrupted"
    # Begun first: it trains while the other run is killed and goes on.
    whole = start([*fit, "--run_dir", str(straight), "--listen.sentences", "0"])  # it is compared, not heard
    with _said(f"fit: kill -9 at step {demo.kill_at}; beside it an uninterrupted run, to compare with"):
        run(
            [*fit, "--run_dir", str(interrupted), "--debug.inject", f"kill@step={demo.kill_at}"],
            expected=KILLED,
        )
    with _said("fit: the same command again"):
        run([*fit, "--run_dir", str(interrupted)])
    with _said("fit: waiting for the uninterrupted run"):
        whole.wait()
    learned, scores = demo.learned, folder / "eval"
    heard = None if learned is None else speak_learned(which, interrupted, VOICE, scores, learned)
    exported = _export(which, demo, interrupted, folder)
    source = exported if exported and demo.speaks_with == "export" else interrupted
    spoken = _speak(which, demo, source, folder, interrupted)
    if heard is not None:
        with _said("eval: what it was trained on, scored beside the recordings and what the codec leaves of them"):
            spoken |= show_learned(heard.wait(), interrupted, scores)
    return {**_judge(interrupted, straight, demo), **spoken}


def _prepare(which: Sequence[str], demo: Demo, prepared: Path) -> Path:
    with _said(f"prepare: the sample voice in {VOICE} to training features"):
        call("prepare", [*which, "--corpus", str(VOICE), "--out", str(prepared), *demo.prepare])
    return prepared


def _filled(words: Sequence[str], out: Path) -> list[str]:
    """Put the run of an earlier stage in place of its name in braces."""
    runs = {folder.name: folder / "run" for folder in out.iterdir() if (folder / "run").is_dir()}
    return [word.format_map(runs) for word in words]


def _export(which: Sequence[str], demo: Demo, source: Path, out: Path) -> Path | None:
    folders = [out / "export" / name for name in demo.formats]
    for name, folder in zip(demo.formats, folders, strict=True):
        with _said(f"export: {name}, read back and compared"):
            call("export", [str(source), *which, "--format", name, "--out", str(folder)])
    return folders[0] if folders else None


def _speak(which: Sequence[str], demo: Demo, source: Path, out: Path, run_dir: Path) -> dict[str, Any]:
    from tts_train.report.page import keep_spoken

    wave = out / "spoken.wav"
    words = _filled(demo.synth, out.parent)
    with _said("synth: a sentence that was not in the training data"):
        told = call("synth", [str(source), *which, "--text", SENTENCE, "--out", str(wave), *words])
    with _said("report: curves, pictures and players on one page"):
        page = keep_spoken(
            run_dir, wave, name="unseen", text=f"{SENTENCE} ({demo.remark})" if demo.remark else SENTENCE
        )
    return {"spoken": str(wave), "spoken_seconds": told["seconds"], "remark": demo.remark, "report": str(page)}


def _judge(interrupted: Path, straight: Path, demo: Demo) -> dict[str, Any]:
    from tts_train.report.history import History, series
    from tts_train.run.checkpoint import open_checkpoint

    # Bit for bit, not nearly: that is the promise.
    hashes = [_weights_hash(open_checkpoint(path).weights()) for path in (interrupted, straight)]
    losses = [entry.value for entry in series(History(interrupted).entries())[demo.judged_by]]
    return {
        demo.judged_by: {"before": losses[0], "after": losses[-1]},
        "loss_as_expected": losses[-1] < losses[0] * demo.falls_below,
        "weights_hash": hashes[0],
        "weights_hash_uninterrupted": hashes[1],
        "continued_exactly": hashes[0] == hashes[1],
    }


def _weights_hash(weights: Mapping[str, Any]) -> str:
    import torch
    import xxhash

    digest = xxhash.xxh3_128()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _clear(out: Path, backend: str, stages: Sequence[Stage]) -> None:
    """Remove what an earlier demo of the same backend wrote, and nothing else."""
    marker = out / ".tts-train-demo"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file and stays as it is. Choose a folder with --out.")
    if out.exists() and any(out.iterdir()):
        if not marker.exists():
            raise ConfigError(f"{out} is not empty and no demo made it. Choose another folder with --out.")
        earlier = marker.read_text(encoding="utf-8").strip()
        if earlier != backend:
            made = f"the demo of {earlier!r}" if earlier else "a demo of an earlier version"
            raise ConfigError(f"{out} holds {made}, which stays as it is. Choose another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        for name in ("prepared", f"prepared-{stage.name}", stage.name):
            shutil.rmtree(out / name, ignore_errors=True)
    # Only a folder with this mark is ever emptied.
    marker.write_text(f"{backend}\n", encoding="utf-8")


@contextmanager
def _said(what: str) -> Iterator[None]:
    began = time.monotonic()
    sys.stderr.write(f"{what} ... ")
    sys.stderr.flush()
    yield
    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")
