"""What a run was heard to say: kept in its samples and shown on its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import soundfile

from tts_train.report.page import write_report
from tts_train.report.samples import write_sample


def keep_spoken(
    run_dir: Path,
    wave: Path,
    *,
    name: str,
    text: str,
    beside: Mapping[str, Path] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Copy a sound that a run's newest checkpoint made into ``samples/``, and write the run's page anew.

    Args:
        run_dir: the run's directory.
        wave: the sound.
        name: name of the sample; one of this name and step is replaced.
        text: what was to be said.
        beside: what it is compared with, by folder: ``reference`` the recording, ``codec`` what the codec leaves of it.
        facts: scores of the sound.

    Returns:
        The page.
    """
    from tts_train.run.checkpoint import open_checkpoint

    step = open_checkpoint(run_dir).step
    _keep(wave, run_dir / "samples" / f"step-{step:06d}", name, text, facts)
    for folder, other in (beside or {}).items():
        _keep(other, run_dir / "samples" / folder, name, text, None)
    return write_report(run_dir)


def _keep(wave: Path, folder: Path, name: str, text: str, facts: Mapping[str, Any] | None) -> None:
    samples, rate = soundfile.read(wave, dtype="float32")
    write_sample(folder, name, samples, rate, text=text, facts=facts)
