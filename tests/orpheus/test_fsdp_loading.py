"""A base is read by rows while it is sharded: each process gets what it would have kept of the whole."""

from __future__ import annotations

import pytest
import torch
import torch.testing._internal.distributed.fake_pg
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from tests.orpheus.family import load_base
from tts_train.contract.backend import Sharding
from tts_train.families.token_lm.network.late import reads_late
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.sharding.apply import apply_sharding
from tts_train.sharding.loading import materialise
from tts_train.sharding.options import FsdpOptions
from tts_train_orpheus import layout
from tts_train_orpheus.stage import OrpheusModule

TINY = TinyOptions(hidden=16, layers=2, heads=2, kv_heads=1, mlp=40)
WORLD = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base as the pretrained release is: several files, half precision, a row too few."""
    folder = tmp_path_factory.mktemp("base")
    lm = load_base("tiny", tiny=TINY).to(torch.bfloat16)
    lm.resize_token_embeddings(layout.VOCAB_SIZE - 1, mean_resizing=False)
    lm.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.fixture
def mesh():
    """Four processes of which only the last exists, the one that makes up the missing row."""
    distributed.init_process_group("fake", rank=WORLD - 1, world_size=WORLD)
    yield init_device_mesh("cpu", (WORLD,))
    distributed.destroy_process_group()


def test_each_process_reads_its_rows(base, mesh):
    module = OrpheusModule(str(base), dtype="float32")
    module._device_mesh = mesh
    module.configure_model()
    assert all(parameter.is_meta for parameter in module.parameters())
    apply_sharding(module, Sharding(wrap=("LlamaDecoderLayer",)), FsdpOptions(), mesh)
    materialise(module, torch.device("cpu"))
    whole = dict(load_base(str(base)).named_parameters())
    assert module.network.tied
    found = dict(module.network.lm.named_parameters())
    assert found.keys() == whole.keys()
    for name, parameter in found.items():
        assert isinstance(parameter, DTensor)
        rows = whole[name].chunk(WORLD)
        # Only the row that is made up of the others may round otherwise.
        torch.testing.assert_close(parameter.to_local(), rows[mesh.get_rank()], rtol=0, atol=5e-6)
    assert module.network.lm.model.rotary_emb.inv_freq.device.type == "cpu"


def test_what_cannot_be_read_by_rows_is_loaded(tmp_path):
    assert not reads_late("tiny")
    assert not reads_late(str(tmp_path))
