"""``--from-accelerate FILE``: an Accelerate configuration as words of ours; what has no equal is named or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tts_train.configuration.recipe_file import read_config
from tts_train.errors import ConfigError
from tts_train.parallel.together import leads
from tts_train.progress import write_line

FLAG = "--from-accelerate"

_STRATEGIES = {"FSDP": "fsdp", "MULTI_GPU": "ddp", "MULTI_CPU": "ddp", "NO": "auto"}
_PRECISIONS = {"NO": "32-true", "FP16": "16-mixed", "BF16": "bf16-mixed"}
_WRAPS = {"TRANSFORMER_BASED_WRAP": "blocks", "SIZE_BASED_WRAP": "size", "NO_WRAP": "none"}
_CHECKPOINTS = {"FULL_STATE_DICT": "full", "SHARDED_STATE_DICT": "sharded"}
# In the order of Accelerate's numbers, which begin at 1 (utils/constants.py, FSDP_SHARDING_STRATEGY).
_SHARDINGS = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")


def with_accelerate(words: list[str]) -> list[str]:
    """Replace ``--from-accelerate FILE`` by what the file says, in its place, and print the translation.

    Words after it win over the file.

    Raises:
        ConfigError: naming a setting of the file that cannot be had here.
    """
    done: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, path = word.partition("=")
        if flag.replace("_", "-") != FLAG:
            done.append(word)
            continue
        path = path if equals else next(rest, "")
        if not path:
            raise ConfigError(f"{FLAG} needs the file that `accelerate config` wrote.")
        translation = translate(Path(path))
        if leads():
            write_line(str(translation))
        done += translation.words
    return done


@dataclass
class Translation:
    """What a file says in words of ours."""

    path: Path
    words: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Settings that have no equal, and why none is needed."""

    def __str__(self) -> str:
        pairs = [f"  {' '.join(self.words[i : i + 2])}" for i in range(0, len(self.words), 2)]
        notes = [f"  not carried over: {note}" for note in self.notes]
        return "\n".join([f"{self.path} says:", *pairs, *notes])


def translate(path: Path) -> Translation:
    """Translate a configuration that ``accelerate config`` wrote.

    Raises:
        ConfigError: if it is none, or it asks for something that cannot be had here.
    """
    settings = {key: value for key, value in read_config(path).items() if value not in (None, {}, "", [])}
    if "distributed_type" not in settings:
        raise ConfigError(f"{path} is no configuration of Accelerate: it has no distributed_type.")
    translation = Translation(path)
    fsdp = settings.pop("fsdp_config", {})
    _processes(settings, translation)
    for key, value in settings.items():
        if key not in ("num_processes", "num_machines"):
            _TOP.get(key, _unknown)(_Setting(key, value, settings), translation)
    if _upper(settings["distributed_type"]) == "FSDP":
        for key, value in fsdp.items():
            # Version 2 of the file leaves the prefix out.
            name = key if key.startswith("fsdp_") else f"fsdp_{key}"
            if value is not None:
                _FSDP.get(name, _unknown)(_Setting(name, value, settings), translation)
    return translation


@dataclass(frozen=True)
class _Setting:
    key: str
    value: Any
    others: Mapping[str, Any]
    """All settings at the top of the file."""

    @property
    def on(self) -> bool:
        return self.value is True or _upper(self.value) in ("TRUE", "YES", "1")

    def refuse(self, why: str) -> NoReturn:
        raise ConfigError(f"{FLAG}: {self.key}: {self.value} {why}")


_Rule = Callable[[_Setting, Translation], None]


def _upper(value: object) -> str:
    # YAML reads `no` as false, and Accelerate writes it unquoted in some versions.
    return "NO" if value is False else str(value).upper()


def _processes(settings: Mapping[str, Any], to: Translation) -> None:
    machines, processes = int(settings.get("num_machines", 1)), int(settings.get("num_processes", 1))
    if machines < 1 or processes % machines:
        raise ConfigError(f"{FLAG}: num_processes: {processes} cannot be shared by num_machines: {machines}.")
    to.words += ["--trainer.devices", str(processes // machines), "--trainer.num_nodes", str(machines)]


def _choice(option: str, names: Mapping[str, str]) -> _Rule:
    def rule(setting: _Setting, to: Translation) -> None:
        given = _upper(setting.value)
        if given not in names:
            setting.refuse(f"has no equal here. What has: {', '.join(names)}.")
        to.words += [option, names[given]]

    return rule


def _precision(setting: _Setting, to: Translation) -> None:
    if _upper(setting.value) == "FP8":
        setting.refuse(_EIGHT_BITS)
    _choice("--trainer.precision", _PRECISIONS)(setting, to)


def _switch(option: str) -> _Rule:
    def rule(setting: _Setting, to: Translation) -> None:
        to.words += [option, "true" if setting.on else "false"]

    return rule


def _note(why: str, *, unless: tuple[object, ...] = ()) -> _Rule:
    def rule(setting: _Setting, to: Translation) -> None:
        if setting.value not in unless:
            to.notes.append(f"{setting.key}: {setting.value} ({why})")

    return rule


def _only(*allowed: str, why: str) -> _Rule:
    def rule(setting: _Setting, _: Translation) -> None:
        if _upper(setting.value) not in allowed:
            setting.refuse(why)

    return rule


def _unknown(setting: _Setting, _: Translation) -> None:
    setting.refuse("is not known here. Remove it from the file, and see docs/scaling.md for what can be set.")


def _cpu(setting: _Setting, to: Translation) -> None:
    to.words += ["--trainer.accelerator", "cpu" if setting.on else "auto"]


def _sharding(setting: _Setting, to: Translation) -> None:
    given = _upper(setting.value)
    if given in ("TRUE", "NO", "FALSE"):  # version 2 says whether to gather again
        to.words += ["--fsdp.shard", "full" if given == "TRUE" else "gradients"]
        return
    # Files of older versions hold the number of the strategy.
    name = _SHARDINGS[int(given) - 1] if given.isdigit() and 0 < int(given) <= len(_SHARDINGS) else given
    if name not in _SHARDINGS:
        setting.refuse(f"is none of {', '.join(_SHARDINGS)}.")
    if name == "NO_SHARD":
        to.words += ["--trainer.strategy", "ddp"]
        return
    to.words += ["--fsdp.shard", "full" if name in ("FULL_SHARD", "HYBRID_SHARD") else "gradients"]
    if name.startswith("HYBRID"):
        to.words += ["--fsdp.replicas", str(setting.others.get("num_machines", 1))]


def _classes(setting: _Setting, to: Translation) -> None:
    names = setting.value if isinstance(setting.value, list) else str(setting.value).split(",")
    to.words += ["--fsdp.blocks", "[" + ",".join(name.strip() for name in names) + "]"]


def _number(setting: _Setting, to: Translation) -> None:
    # By way of float: PyYAML reads 1e8, which has no dot, as text.
    to.words += ["--fsdp.min_parameters", str(max(int(float(setting.value)), 1))]


def _prefetch(setting: _Setting, to: Translation) -> None:
    if _upper(setting.value) != "BACKWARD_PRE":
        to.notes.append(
            f"{setting.key}: {setting.value} (one block is always gathered ahead; --fsdp.prefetch for more)"
        )


_EIGHT_BITS = (
    "belongs to the stage here. Put mixed_precision: bf16 there, and give --model.float8.recipe rowwise where the "
    "stage has it (docs/scaling.md)."
)
_OTHER_ENGINE = "is another engine's. Here are --trainer.strategy fsdp and ddp."
_LAUNCHER = _note("what starts the processes says so: see docs/scaling.md for torchrun and SLURM", unless=(0, "static"))

_TOP: dict[str, _Rule] = {
    "distributed_type": _choice("--trainer.strategy", _STRATEGIES),
    "mixed_precision": _precision,
    "use_cpu": _cpu,
    "compute_environment": _only("LOCAL_MACHINE", why="is not supported: start the processes with torchrun or SLURM."),
    "gpu_ids": _note("set CUDA_VISIBLE_DEVICES", unless=("all",)),
    **dict.fromkeys(("machine_rank", "main_process_ip", "main_process_port", "rdzv_backend"), _LAUNCHER),
    "same_network": _note("nothing depends on it", unless=(True, False)),
    "main_training_function": _note("nothing depends on it", unless=("main",)),
    "debug": _note("set TORCH_DISTRIBUTED_DEBUG=DETAIL", unless=(False,)),
    "enable_cpu_affinity": _note("bind processes with numactl or SLURM's --cpu-bind", unless=(False,)),
    "downcast_bf16": _only("NO", "FALSE", why="is for TPUs, which are not supported."),
    **dict.fromkeys(
        ("tpu_use_cluster", "tpu_use_sudo"), _only("NO", "FALSE", why="is for TPUs; they are not supported.")
    ),
    "tpu_env": _only(why="is for TPUs, which are not supported."),
    **dict.fromkeys(("deepspeed_config", "megatron_lm_config", "parallelism_config"), _only(why=_OTHER_ENGINE)),
    "fp8_config": _only(why=_EIGHT_BITS),
    "dynamo_config": _only(why="compiles the network, for which there is no option here."),
}
_FSDP: dict[str, _Rule] = {
    "fsdp_version": _note("version 2, fully_shard, is always used", unless=(2, "2")),
    "fsdp_sharding_strategy": _sharding,
    "fsdp_reshard_after_forward": _sharding,
    "fsdp_auto_wrap_policy": _choice("--fsdp.wrap", _WRAPS),
    "fsdp_transformer_layer_cls_to_wrap": _classes,
    "fsdp_min_num_params": _number,
    "fsdp_offload_params": _switch("--fsdp.cpu_offload"),
    "fsdp_backward_prefetch": _prefetch,
    "fsdp_forward_prefetch": _note("the next block is gathered while one computes, always", unless=(False,)),
    "fsdp_state_dict_type": _choice("--fsdp.checkpoint", _CHECKPOINTS),
    "fsdp_cpu_ram_efficient_loading": _note("a backend that can, reads only each process's rows, always"),
    "fsdp_sync_module_states": _note("every process reads the same weights"),
    "fsdp_use_orig_params": _note("parameters are always the original ones"),
    "fsdp_activation_checkpointing": _switch("--model.gradient_checkpointing"),
    "fsdp_activation_checkpointing_offload": _switch("--model.offload_activations"),
}
