"""What a run was heard to say: kept in its samples and shown on its page."""

from __future__ import annotations

from pathlib import Path

import soundfile

from tts_train.report.page import write_report
from tts_train.report.samples import write_sample


def keep_spoken(run_dir: Path, wave: Path, *, name: str, text: str) -> Path:
    """Copy a sound that a run's newest checkpoint made into ``samples/``, and write the run's page anew.

    Args:
        run_dir: the run's directory.
        wave: the sound.
        name: name of the sample; one of this name and step is replaced.
        text: what was to be said.

    Returns:
        The page.
    """
    from tts_train.run.checkpoint import open_checkpoint

    step = open_checkpoint(run_dir).step
    samples, rate = soundfile.read(wave, dtype="float32")
    write_sample(run_dir / "samples" / f"step-{step:06d}", name, samples, rate, text=text)
    return write_report(run_dir)
