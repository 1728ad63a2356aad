"""Which of a run's processes this is."""

from __future__ import annotations

import os

from lightning.fabric.utilities.rank_zero import rank_zero_only


def leads() -> bool:
    """Tell whether this is the first process of a run, the one that writes and speaks.

    It holds before Lightning has launched the others, too: launchers tell rank and node by the environment.
    """
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return getattr(rank_zero_only, "rank", 0) == 0 and node == "0"


def launched_by_lightning() -> bool:
    """Tell whether Lightning itself started this process beside the first one."""
    foreign = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & set(os.environ)
    return not leads() and not foreign
