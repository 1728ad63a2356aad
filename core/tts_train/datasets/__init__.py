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
        pack as pack,
        shuffled as shuffled,
    )
    from tts_train.datasets.split import place as place
    from tts_train.datasets.store.inputs import input_of as input_of, printable as printable
    from tts_train.datasets.store.parquet_rows import is_number_list as is_number_list
    from tts_train.datasets.store.shard_store import ShardStore as ShardStore, input_key as input_key
    from tts_train.datasets.store.shards import (
        PREPARE as PREPARE,
        PreparedSet as PreparedSet,
        facts_of as facts_of,
        is_prepared as is_prepared,
        read_index as read_index,
    )
    from tts_train.datasets.usable import UsableRows as UsableRows

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".batches": "Batches batches_for pack shuffled",
        ".split": "place",
        ".store.inputs": "input_of printable",
        ".store.parquet_rows": "is_number_list",
        ".store.shard_store": "ShardStore input_key",
        ".store.shards": "PREPARE PreparedSet facts_of is_prepared read_index",
        ".usable": "UsableRows",
    },
)
