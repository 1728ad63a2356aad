"""Prepared data sets: shards on disk, and the batches that are drawn from them.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.datasets.batches import (
        Batches as Batches,
        batches_for as batches_for,
        in_order as in_order,
        pack as pack,
        shuffled as shuffled,
    )
    from tts_train.datasets.corruption import Corruption as Corruption
    from tts_train.datasets.split import place as place
    from tts_train.datasets.store.shards import PreparedSet as PreparedSet, prepared_facts as prepared_facts
    from tts_train.datasets.takes import TakeSet as TakeSet, is_takes as is_takes
    from tts_train.datasets.usable import UsableRows as UsableRows

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".batches": "Batches batches_for in_order pack shuffled",
        ".corruption": "Corruption",
        ".split": "place",
        ".store.shards": "PreparedSet prepared_facts",
        ".takes": "TakeSet is_takes",
        ".usable": "UsableRows",
    },
)
