"""What other libraries say and nobody needs to read."""

from __future__ import annotations

import logging
import warnings


def quieten() -> None:
    """Silence Lightning's advice about things that are decided here, and its notices of what is not there."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns on import of a CPU kernel that is optional
    for advice in (
        ".*args parameter is intended to run from within Python.*",
        ".*does not have many workers.*",
        ".*You're resuming from a checkpoint that ended before the epoch ended.*",
        ".*is smaller than the logging interval.*",
        ".*but have no `val_dataloader`.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
        ".*`max_epochs` was not set.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
    ):
        warnings.filterwarnings("ignore", message=advice)
