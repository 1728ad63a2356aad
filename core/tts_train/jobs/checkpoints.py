"""Which checkpoint of a run is exported or spoken with: the newest unless ``--checkpoint`` names another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tts_train.errors import ConfigError, DataError

HELP = "checkpoint of the run: last (the newest, the default), best (by --checkpoint.monitor), or the number of a step"


def choose_checkpoint(source: Path, asked: str | None, *, name: str | None = None) -> Path:
    """Return what to open for a source, and say on stderr which checkpoint of a run that is.

    Args:
        source: A run directory, or anything else that can be exported or spoken with.
        asked: ``best``, ``last``, a step, or None for the newest; only for a run directory.
        name: What the source is called where there are several.

    Returns:
        The checkpoint that was asked for; the source itself for the newest.

    Raises:
        ConfigError: if there is no such checkpoint, with those that there are, or the source is no run directory.
    """
    # Here, as is what reads a run: the help of a job needs none of it.
    from tts_train.progress import write_line
    from tts_train.run.directory import RunDirectory

    run = RunDirectory(source)
    if not run.checkpoints.is_dir():
        if asked is not None:
            raise ConfigError(
                f"--checkpoint {asked} chooses among the checkpoints of a run, and {source} is no run directory. Leave "
                "--checkpoint out, or give the --run_dir of a run."
            )
        return source
    step = _step(run, asked)
    if step is None:
        return source  # opening it says that there is none
    write_line(f"Checkpoint{'' if name is None else f' of {name}'}: {run.step_path(step)}{_about(run, step)}")
    # The run itself, whose opener skips a checkpoint that turns out to be damaged.
    return source if asked in (None, "last") else run.step_path(step)


def _step(run: Any, asked: str | None) -> int | None:  # noqa: ANN401 - imported late
    steps = run.steps()
    # By the steps, not by the link: it may be missing, or lead to a checkpoint that is damaged.
    if asked in (None, "last"):
        return next((step for step in reversed(steps) if _looks_whole(run.step_path(step))), None)
    for step in steps:
        if step == run.linked("best") if asked == "best" else str(asked).isdecimal() and step == int(str(asked)):
            return int(step)
    known = ", ".join(["last", *(["best"] if run.linked("best") in steps else []), *map(str, steps)])
    raise ConfigError(f"{run.path} has no checkpoint {asked!r}. Give --checkpoint with one of: {known}.")


def _looks_whole(path: Path) -> bool:
    """Compare sizes only: whoever opens it reads every byte."""
    from tts_train.checkpoints.folder_io import verify

    try:
        verify(path, hashes=False)
    except DataError:
        return False
    return True


def _about(run: Any, step: int) -> str:  # noqa: ANN401 - imported late
    """Return the figure that the best is chosen by, here and at the best."""
    import yaml

    from tts_train.report.history import History, series

    try:
        config = yaml.safe_load(run.config.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError):
        config = {}
    name = str((config.get("checkpoint") or {}).get("monitor") or "val/loss")
    values = {entry.step: entry.value for entry in series(History(run.path).entries()).get(name, [])}
    here = f", {name} {values[step]:.4g}" if step in values else ""
    best = run.linked("best")
    if best is None or best == step:
        return here + (", the best" if best == step else "")
    score = f" with {values[best]:.4g}" if best in values else ""
    return f"{here}. The best by {name} is step {best}{score}: --checkpoint best takes it."
