"""Finch as a backend that is installed for a test, and an extension that brings a metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tts_train.contract import Backend, Figure, Metric, Stage, hookimpl
from tts_train.families.token_lm import reinforce_stage

_WHERE = "tests.families.finch"
LM = Stage(name="lm", summary="Codes.", model=f"{_WHERE}:FinchModule", data=f"{_WHERE}:FinchData")
GRPO = reinforce_stage(LM, model=f"{_WHERE}:FinchReinforce", data=f"{_WHERE}:FinchPrompts")
_METADATA = "Metadata-Version: 2.1\nName: finch-for-tests\nVersion: 1\n"
_ENTRIES = f"[tts_train.backends]\nfinch = {__name__}\n\n[tts_train.plugins]\nloud = {__name__}:Loud\n"


@hookimpl
def tts_train_backend() -> Backend:
    """Describe the backend."""
    return Backend(name="finch", summary="One codebook.", stages=(LM, GRPO), default="lm")


class Loudness(Metric):
    """How loud a take is, and how quiet."""

    name = "loudness"
    figures = (
        Figure(name="loudness", unit="dB", better="higher", summary="root mean square"),
        Figure(name="quietness", unit="dB", better="higher", summary="how far below full scale that is"),
    )

    def measure(self, take):
        """Return both."""
        loudness = 20 * float(np.log10(np.sqrt(np.square(take.sound.samples).mean()) + 1e-6))
        return {"loudness": loudness, "quietness": -loudness}


class Loud:
    """An extension."""

    @staticmethod
    @hookimpl
    def tts_train_metrics(stage, weights):
        """Bring the metric."""
        return [Loudness()]


def install(folder: Path) -> Path:
    """Write what says that both are installed; the folder then belongs on the path."""
    about = folder / "finch_for_tests-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(_METADATA, encoding="utf-8")
    (about / "entry_points.txt").write_text(_ENTRIES, encoding="utf-8")
    return folder
