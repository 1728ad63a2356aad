"""What processes gather for a checkpoint is agreed on before anything is gathered."""

from __future__ import annotations

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from tts_train.checkpoints.by_processes import _Writing
from tts_train.errors import ConfigError


@pytest.fixture
def writing(tmp_path):
    """What one process writes: a sharded weight, and a plain figure that others may not have."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        made = _Writing("full")
        made.sink(("state_dict", "weight"), DTensor.from_local(torch.ones(4, 2), mesh, [Shard(0)]))
        made.sink(("loops", "preference"), torch.ones(()))
        yield made
    finally:
        distributed.destroy_process_group()


def test_only_sharded_tensors_need_be_the_same_everywhere(writing):
    plan = [(stem, file.gathered) for stem, file in writing._common.items()]
    assert [names for _, names in plan if names] == [["weight"]]
    writing._refuse_others([*plan, ("figures of another process", [])])
    with pytest.raises(ConfigError, match=r"bias of .* is sharded in some processes only"):
        writing._refuse_others([(stem, [*names, "bias"] if names else names) for stem, names in plan])
