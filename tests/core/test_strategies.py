"""Sharding in one process: where networks are cut, what is read, what is refused; and Accelerate's files."""

from __future__ import annotations

import ctypes
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.testing._internal.distributed.fake_pg
from safetensors.torch import save_file
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from tts_train.checkpoints.stored import StoredTensor
from tts_train.configuration.accelerate import translate, with_accelerate
from tts_train.contract.backend import Sharding
from tts_train.contract.module import StageModule
from tts_train.errors import ConfigError, DataError, DiskError
from tts_train.parallel.together import raised_by_all, together
from tts_train.run.loops import share_batches
from tts_train.sharding.apply import apply_sharding
from tts_train.sharding.fsdp import checked_precision
from tts_train.sharding.loading import INDEX, materialise, safetensors_folder
from tts_train.sharding.options import FsdpOptions

RANK, WORLD = 1, 4
TWO = ("first", "second")
PLAN = Sharding(wrap=("Block",))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width, bias=False)


class Network(nn.Module):
    def __init__(self, width: int = 8, layers: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(layers))
        self.head = nn.Linear(width, 10, bias=False)
        self.head.weight = self.embed.weight


class Module(StageModule):
    def __init__(self, network: nn.Module, folder: Path | None = None) -> None:
        super().__init__()
        self.network = network
        self.folder = folder

    def stored_weights(self):
        return {f"network.{name}": tensor for name, tensor in safetensors_folder(self.folder).items()}


@pytest.fixture
def mesh():
    """Four processes of which only the second exists: enough to see what it holds."""
    distributed.init_process_group("fake", rank=RANK, world_size=WORLD)
    yield init_device_mesh("cpu", (WORLD,))
    distributed.destroy_process_group()


def wrapped(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, FSDPModule)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["network", "network.layers.0", "network.layers.1", "network.layers.2"]),
        ({"wrap": "none"}, ["network"]),
        ({"blocks": ("ModuleList",), "wrap": "none"}, ["network"]),
        ({"blocks": ("Linear",)}, ["network", *(f"network.layers.{i}.{n}" for i in range(3) for n in TWO)]),
        ({"wrap": "size", "min_parameters": 70}, ["network", *(f"network.layers.{i}.first" for i in range(3))]),
        ({"wrap": "size", "min_parameters": 100}, ["network", *(f"network.layers.{i}" for i in range(3))]),
    ],
)  # fmt: skip
def test_where_a_network_is_cut(mesh, options, expected):
    module = Module(Network())
    if options.get("blocks") == ("Linear",):
        module.network.head = nn.Identity()
    apply_sharding(module, PLAN, FsdpOptions(**options), mesh)
    assert wrapped(module) == expected
    assert all(isinstance(parameter, DTensor) for parameter in module.parameters())


def test_what_cannot_be_cut_is_refused(mesh):
    with pytest.raises(ConfigError, match=r"No module is of class Layer.*There are: Block, Embedding.*--fsdp\.blocks"):
        apply_sharding(Module(Network()), Sharding(wrap=("Layer",)), FsdpOptions(), mesh)
    with pytest.raises(ConfigError, match=r"Embedding share parameters"):
        apply_sharding(Module(Network()), PLAN, FsdpOptions(blocks=("Embedding",)), mesh)
    loose = Module(Network())
    loose.scale = nn.Parameter(torch.ones(3))
    with pytest.raises(ConfigError, match=r"parameters outside any network \(scale\)"):
        apply_sharding(loose, PLAN, FsdpOptions(), mesh)
    scalar = Module(Network())
    scalar.network.layers[0].scale = nn.Parameter(torch.ones(()))
    with pytest.raises(ConfigError, match=r"Block cannot be sharded: .*scalar.*--trainer\.strategy ddp"):
        apply_sharding(scalar, PLAN, FsdpOptions(), mesh)
    with pytest.raises(ConfigError, match=r"--fsdp\.prefetch must be at least 1"):
        FsdpOptions(prefetch=0)


@dataclass
class Answer:
    loss: torch.Tensor


class Returns(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.layer, self.make = nn.Linear(4, 4), make

    def forward(self, x):
        return self.make(self.layer(x))


def test_a_network_must_show_where_its_gradients_begin(mesh):
    module = StageModule()
    module.shown, module.hidden = Returns(Answer), Returns(lambda x: SimpleNamespace(loss=x))
    apply_sharding(module, PLAN, FsdpOptions(wrap="none", blocks=()), mesh)
    assert module.shown(torch.ones(2, 4)).loss.requires_grad
    with pytest.raises(ConfigError, match=r"Returns returns SimpleNamespace.*a dataclass of tensors"):
        module.hidden(torch.ones(2, 4))


class Peak(threading.Thread):
    """Watches how much memory of its own this process takes (mapped files are not its own)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.watching = 0, True

    def __enter__(self):
        # What earlier tests have freed would be used again, and nothing would seem to be taken.
        ctypes.CDLL(None).malloc_trim(0)
        self.start_at = self._now()
        self.start()
        return self

    def __exit__(self, *_):
        self.watching = False
        self.join()

    @staticmethod
    def _now() -> int:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    def run(self) -> None:
        while self.watching:
            self.most = max(self.most, self._now() - self.start_at)
            time.sleep(0.0005)


def test_no_process_ever_holds_the_whole_model(mesh, tmp_path):
    width, layers = 1024, 12  # 96 MiB in 4 files
    whole = Network(width, layers)
    weights = {name: p.detach() for name, p in whole.named_parameters()}
    names, index = sorted(weights), {}
    for number in range(4):
        file = f"model-0000{number + 1}-of-00004.safetensors"
        save_file({name: weights[name] for name in names[number::4]}, tmp_path / file)
        index |= dict.fromkeys(names[number::4], file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": index}))
    size = sum(p.numel() * 4 for p in weights.values())
    with torch.device("meta"):
        module = Module(Network(width, layers), tmp_path)
    apply_sharding(module, PLAN, FsdpOptions(), mesh)
    with Peak() as own:
        materialise(module, torch.device("cpu"))
    for name, parameter in module.network.named_parameters():
        rows = weights[name].chunk(WORLD)
        assert torch.equal(parameter.to_local(), rows[RANK]), name
    assert module.network.head.weight is module.network.embed.weight
    with Peak() as all_of_it:
        kept = [tensor.whole() for tensor in safetensors_folder(tmp_path).values()]
    assert len(kept) == len(weights)
    # Of four processes one holds a quarter, and the rows being copied; 0.22 and 1.0 of the model were measured.
    assert own.most < size * 0.4
    assert all_of_it.most > size * 0.8


def test_weights_that_are_missing_or_other_are_refused(mesh, tmp_path):
    with pytest.raises(DataError, match="no safetensors files"):
        safetensors_folder(tmp_path)
    for damaged in ("[]", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', "{"):
        (tmp_path / INDEX).write_text(damaged)
        with pytest.raises(DataError, match="Download it again"):
            safetensors_folder(tmp_path)
    (tmp_path / INDEX).unlink()
    weights = {name: p.detach() for name, p in Network().named_parameters()}
    save_file({**weights, "layers.0.first.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        modules = [Module(Network(layers=layers), tmp_path) for layers in (3, 4)]
    for module, message in zip(modules, (r"first.bias has shape \(3,\)", "first is network.layers.3"), strict=True):
        apply_sharding(module, PLAN, FsdpOptions(), mesh)
        with pytest.raises(ConfigError, match=message):
            materialise(module, torch.device("cpu"))


def test_rows_are_read_across_files(tmp_path):
    from safetensors import safe_open

    whole = torch.arange(14.0).reshape(7, 2)
    for number, part in enumerate(whole.split([3, 0, 4])):
        save_file({"x": part.contiguous()}, tmp_path / f"{number}")
    stored = StoredTensor("x", [safe_open(tmp_path / f"{number}", framework="pt") for number in range(3)])
    assert stored.shape == (7, 2)
    assert torch.equal(stored.whole(), whole)
    for start, stop in ((0, 7), (2, 4), (3, 3), (5, 7), (0, 1)):
        assert torch.equal(stored.rows(start, stop), whole[start:stop])


def test_an_error_is_known_to_all():
    with pytest.raises(DiskError) as caught, together(torch.device("cpu")):
        raise DiskError("full")
    assert raised_by_all(caught.value)
    assert not raised_by_all(DiskError("full"))


@pytest.mark.parametrize(("before", "now", "ready"), [(2, 1, 6), (1, 2, 1), (2, 2, 3), (4, 3, 4)])
def test_the_place_in_the_epoch_is_kept(before, now, ready):
    counters = {"ready": 3, "started": 3, "processed": 3, "completed": 2}
    loops = {"fit_loop": {"epoch_loop.batch_progress": {"total": dict(counters), "current": dict(counters)}}}
    share_batches({"loops": loops}, before=before, now=now)
    current = loops["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert current == {"ready": ready, "started": ready, "processed": ready, "completed": ready - 1}


@pytest.mark.parametrize("precision", ["16-mixed", "16", "transformer-engine", "nonsense"])
def test_a_precision_that_the_machine_cannot_do_is_refused(precision):
    with pytest.raises(ConfigError, match=r"--trainer\.precision .*bf16-mixed"):
        checked_precision({"precision": precision, "accelerator": "cpu"})


@pytest.mark.parametrize("precision", ["32-true", 32, None, "bf16-mixed", "bf16-true", "bf16"])
def test_other_precisions_pass(precision):
    arguments = {"precision": precision, "accelerator": "cpu", "strategy": "fsdp"}
    assert checked_precision(arguments) == arguments


@pytest.mark.parametrize("precision", ["16-mixed", "64-true"])
def test_what_an_apple_gpu_lacks_is_refused_by_its_name(precision, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("auto", "mps"):
        with pytest.raises(
            ConfigError, match=r"is not for Apple's GPU, which can do: 32-true, bf16-mixed, bf16-true\."
        ):
            checked_precision({"precision": precision, "accelerator": accelerator})
    asked = {"precision": "bf16-mixed", "accelerator": "auto"}
    assert checked_precision(asked) == asked
    asked = {"precision": "64-true", "accelerator": "cpu"}
    assert checked_precision(asked) == asked


ACCELERATE = """
compute_environment: LOCAL_MACHINE
debug: false
distributed_type: FSDP
downcast_bf16: 'no'
enable_cpu_affinity: false
fsdp_config:
  fsdp_activation_checkpointing: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_backward_prefetch: BACKWARD_PRE
  fsdp_cpu_ram_efficient_loading: true
  fsdp_forward_prefetch: false
  fsdp_offload_params: false
  fsdp_sharding_strategy: HYBRID_SHARD
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_sync_module_states: true
  fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer
  fsdp_use_orig_params: true
machine_rank: 0
main_training_function: main
mixed_precision: bf16
num_machines: 2
num_processes: 16
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: false
"""


def test_a_file_of_accelerate_becomes_words(tmp_path, capsys):
    path = tmp_path / "accelerate.yaml"
    path.write_text(ACCELERATE)
    words = with_accelerate(["--backend", "toy", "--from-accelerate", str(path), "--trainer.devices", "4"])
    assert words == [
        "--backend", "toy",
        "--trainer.devices", "8", "--trainer.num_nodes", "2", "--trainer.strategy", "fsdp",
        "--trainer.precision", "bf16-mixed", "--trainer.accelerator", "auto", "--model.gradient_checkpointing", "true",
        "--fsdp.wrap", "blocks", "--fsdp.cpu_offload", "false", "--fsdp.shard", "full", "--fsdp.replicas", "2",
        "--fsdp.checkpoint", "sharded", "--fsdp.blocks", "[LlamaDecoderLayer]",
        "--trainer.devices", "4",
    ]  # fmt: skip
    told = capsys.readouterr().err
    assert "--fsdp.replicas 2" in told
    assert "not carried over: fsdp_use_orig_params: True" in told


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in ACCELERATE
    path = tmp_path / "accelerate.yaml"
    path.write_text(ACCELERATE.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fsdp_sharding_strategy: HYBRID_SHARD", "fsdp_sharding_strategy: 2", ["--fsdp.shard", "gradients"]),
        ("fsdp_sharding_strategy: HYBRID_SHARD", "fsdp_reshard_after_forward: false", ["--fsdp.shard", "gradients"]),
        ("fsdp_sharding_strategy: HYBRID_SHARD", "fsdp_reshard_after_forward: true", ["--fsdp.shard", "full"]),
        ("fsdp_sharding_strategy: HYBRID_SHARD", "fsdp_sharding_strategy: NO_SHARD", ["--trainer.strategy", "ddp"]),
        ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", ["--fsdp.wrap", "size"]),
        ("fsdp_use_orig_params: true", "fsdp_min_num_params: 1e6", ["--fsdp.min_parameters", "1000000"]),
        ("mixed_precision: bf16", "mixed_precision: 'no'", ["--trainer.precision", "32-true"]),
        ("mixed_precision: bf16", "mixed_precision: no", ["--trainer.precision", "32-true"]),
        ("use_cpu: false", "use_cpu: true", ["--trainer.accelerator", "cpu"]),
        ("distributed_type: FSDP", "distributed_type: MULTI_GPU", ["--trainer.strategy", "ddp"]),
    ],
)
def test_every_choice_of_accelerate_has_its_words(tmp_path, old, new, words):
    found = translate(changed(tmp_path, old, new)).words
    assert any(found[i : i + 2] == words for i in range(0, len(found), 2))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SHARDED_STATE_DICT", "LOCAL_STATE_DICT", "fsdp_state_dict_type: LOCAL_STATE_DICT has no equal"),
        ("mixed_precision: bf16", "mixed_precision: fp8", "mixed_precision: fp8 belongs to the stage here"),
        ("distributed_type: FSDP", "distributed_type: DEEPSPEED", "distributed_type: DEEPSPEED"),
        ("debug: false", "dynamo_config: {dynamo_backend: INDUCTOR}", "dynamo_config"),
        ("debug: false", "nonsense: 3", "nonsense: 3 is not known"),
        ("num_processes: 16", "num_processes: 15", "num_processes: 15"),
        ("distributed_type: FSDP", "", "no distributed_type"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=message):
        translate(changed(tmp_path, old, new))
