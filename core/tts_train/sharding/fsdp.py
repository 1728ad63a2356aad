"""``--trainer.strategy fsdp``: Lightning's strategy for FSDP2, told by a stage where to cut.

Which ``--trainer.precision`` a machine and a strategy can do is decided here; what they cannot is refused with what
they can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from typing_extensions import override

from tts_train.checkpoints.by_processes import load_shared, save_shared
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.checkpoints.stored import StoredTensor
from tts_train.contract.backend import Sharding
from tts_train.errors import ConfigError
from tts_train.parallel.together import reshard
from tts_train.sharding.apply import apply_sharding
from tts_train.sharding.loading import load_rows, materialise, own_rows
from tts_train.sharding.options import NAME, FsdpOptions

_SPELLINGS = {
    "16": "16-mixed",
    "bf16": "bf16-mixed",
    "32": "32-true",
    "64": "64-true",
}
_CPU = ("32-true", "bf16-mixed", "bf16-true", "64-true")
_APPLE = ("32-true", "bf16-mixed", "bf16-true")
# Older cards emulate bfloat16, slowly.
_AMPERE = (8, 0)


def checked_precision(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's arguments as Lightning takes them, with a precision that this machine can do.

    Lightning itself would train ``16-mixed`` on a CPU as ``bf16-mixed``, and refuses a gradient scaler under sharding,
    which FSDP2 has no quarrel with.

    Args:
        trainer: the arguments of a ``Trainer``: ``precision``, ``accelerator``, ``plugins`` and ``strategy``.

    Raises:
        ConfigError: naming what the machine can do instead.
    """
    given = str(trainer.get("precision") or "32-true")
    precision = _SPELLINGS.get(given, given)
    on_card = _is_cuda(trainer.get("accelerator"))
    if precision.startswith("transformer-engine"):
        raise ConfigError(f"--trainer.precision {given} (8-bit floats) is not supported. Use bf16-mixed or bf16-true.")
    able: tuple[str, ...] = _CPU
    where = "a CPU"
    if on_card:
        able, where = _able(torch.cuda.get_device_capability()), f"a card like {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available() and trainer.get("accelerator") in ("auto", "gpu", "mps", None):
        able, where = _APPLE, "Apple's GPU"
    if precision not in able:
        raise ConfigError(f"--trainer.precision {given} is not for {where}, which can do: {', '.join(able)}.")
    if precision == "16-mixed" and _is_ours(trainer.get("strategy")):
        # Lightning's check sits in its connector for the option, not in the plugin.
        scaled = MixedPrecision("16-mixed", "cuda")
        return {**trainer, "precision": None, "plugins": [*(trainer.get("plugins") or []), scaled]}
    return trainer


def _able(capability: tuple[int, int]) -> tuple[str, ...]:
    half = ("bf16-mixed", "bf16-true") if capability >= _AMPERE else ()
    return ("32-true", "16-mixed", *half, "64-true")


def _is_cuda(accelerator: object) -> bool:
    return torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda", None)


def _is_ours(strategy: object) -> bool:
    return strategy == NAME or isinstance(strategy, FsdpStrategy)


class FsdpStrategy(ModelParallelStrategy):
    """Weights, gradients and optimiser states divided over processes by rows.

    Works on CPUs (gloo) and CUDA cards (NCCL). Checkpoints are those of one process: Lightning's own sharded ones,
    which are pickles and not written in one piece, are never made.

    Args:
        sharding: where the networks are cut.
        options: what ``--fsdp.*`` says.
    """

    def __init__(self, sharding: Sharding, options: FsdpOptions) -> None:
        # Lightning's strategy for DTensors without its second dimension; how networks are cut is ours below.
        super().__init__(tensor_parallel_size=1)
        self.sharding = sharding
        self.options = options

    @override
    def setup_environment(self) -> None:
        """Join the processes."""
        # Set before the mesh is made; "auto" would be the number of machines.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def setup(self, trainer: Trainer) -> None:
        """Shard the networks that the module has built, fill what was left empty, and make the optimisers."""
        assert self.model is not None
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        apply_sharding(self.model, self.sharding, self.options, self._mesh())
        materialise(self.model, torch.device("cpu") if self.options.cpu_offload else self.root_device)
        vars(self.model)["_device"] = self.root_device  # what Lightning's own strategies do by moving the whole module
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            # After cutting: an optimiser must be given the DTensors, not the parameters that they replace.
            self.setup_optimizers(trainer)
            _refuse_factored(self.optimizers)
        self.setup_precision_plugin()
        if trainer.state.fn == TrainerFn.FITTING and not self.options.cpu_offload:
            _optimizers_to_device(self.optimizers, self.root_device)

    @override
    def on_validation_end(self) -> None:
        """Divide again what validation left gathered: made without gradients, training could not use it."""
        if self.model is not None:
            reshard(self.model)

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands optimiser states back to :meth:`load_optimizer_state_dict`."""
        return True

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the weights as they lie: sharded, nothing gathered."""
        assert self.lightning_module is not None
        state: dict[str, Any] = self.lightning_module.state_dict()
        return state

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimiser's state as it lies, under the numbers that one process gives to parameters."""
        inner: Any = getattr(optimizer, "optimizer", optimizer)
        state: dict[str, Any] = inner.state_dict()
        return state

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write the checkpoint from all processes."""
        writer = self.checkpoint_io if isinstance(self.checkpoint_io, DirectoryCheckpointIO) else None
        save_shared(
            checkpoint,
            Path(self.broadcast(filepath)),
            writer or DirectoryCheckpointIO(),
            layout=self.options.checkpoint,
            device=self.root_device,
        )

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; tensors follow where they are needed."""
        return load_shared(Path(checkpoint_path), device=self.root_device)

    @override
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Read this process's rows of every weight in the checkpoint.

        Raises:
            ConfigError: if the checkpoint's weights are not the module's.
        """
        assert self.lightning_module is not None
        own, stored = self.lightning_module.state_dict(), checkpoint["state_dict"]
        missing, foreign = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
        if foreign or (strict and missing):
            raise ConfigError(
                f"The checkpoint does not fit this run's network: {[*missing, *foreign][0]} is in one only."
            )
        with torch.no_grad():
            for name in stored:
                load_rows(own[name], stored[name], name)

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Read this process's rows of the optimisers' states."""
        for optimizer, stored in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            # Numbers, not names: an optimiser's state of one process has them, and any number of processes continues
            # from it.
            state = {
                number: {name: _as_held(value, parameters[number]) for name, value in values.items()}
                for number, values in stored["state"].items()
            }
            optimizer.load_state_dict({**stored, "state": state})

    def _mesh(self) -> DeviceMesh:
        replicas, world_size = self.options.replicas, self.world_size
        if replicas == 1:
            mesh: DeviceMesh = self.device_mesh["data_parallel"]
            return mesh
        if world_size % replicas:
            raise ConfigError(f"--fsdp.replicas {replicas} does not divide the {world_size} processes of this run.")
        shape = (replicas, world_size // replicas)
        return init_device_mesh(self.root_device.type, shape, mesh_dim_names=("replicas", "shards"))


def _refuse_factored(optimizers: Sequence[Optimizer]) -> None:
    if any(isinstance(optimizer, torch.optim.Adafactor) for optimizer in optimizers):
        raise ConfigError(
            "PyTorch's adafactor cannot step parameters that are sharded over processes (its means over columns "
            "would have to change in place). Use --model.optimizer.name adamw, or --trainer.strategy ddp."
        )


def _as_held(value: object, parameter: torch.Tensor) -> object:
    """Return a stored optimiser state as this process holds it for ``parameter``."""
    if not isinstance(value, StoredTensor):
        return value
    shape = torch.Size(value.shape)
    if not isinstance(parameter, DTensor) or not (shape == parameter.shape or value.by_rows):
        return value.whole()
    mesh, placements = parameter.device_mesh, parameter.placements
    rows = own_rows(value, mesh, placements).contiguous().to(parameter.to_local().device)
    # from_local would take both from this process's rows, as if every process held as many.
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(rows, mesh, placements, run_check=False, shape=shape, stride=stride)
