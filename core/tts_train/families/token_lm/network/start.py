"""The base that training starts from: a released or exported model, or the tiny one."""

from __future__ import annotations

import logging
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel

from tts_train.errors import ConfigError
from tts_train.nn.packed_attention import register
from tts_train.weights.hub import unreachable, why_missing

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM

logger = logging.getLogger(__name__)

TINY = "tiny"
"""The value of ``--model.init_from`` that needs no files."""

ATTENTION = register()
_WHAT_TO_GIVE = (
    "Give a local folder with config.json and *.safetensors, a run directory or checkpoint, 'tiny', or a hub name."
)
SUPPORTED = ("llama", "qwen2", "qwen3")
"""Kinds of network whose layers are called one by one as Llama's are: no mask of their own, positions handed in."""


@dataclass(frozen=True)
class TinyOptions:
    """Size of the seeded network of ``--model.init_from tiny``; vocabulary and rotary settings are the real ones."""

    hidden: int = 64
    """Width; a multiple of ``heads``."""
    layers: int = 2
    """Decoder layers."""
    heads: int = 4
    """Attention heads."""
    kv_heads: int = 2
    """Key and value heads; a divisor of ``heads``."""
    mlp: int = 192
    """Width inside the feed-forward layers."""
    seed: int = 0
    """Seed of the weights; no other seed has a part in them."""

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.heads, self.kv_heads, self.mlp) < 1:
            raise ConfigError(f"--model.tiny.* must be at least 1, and {self} is not.")
        if self.hidden % (2 * self.heads) or self.heads % self.kv_heads:
            raise ConfigError(
                f"--model.tiny.hidden ({self.hidden}) must be a multiple of twice --model.tiny.heads ({self.heads}), "
                f"and heads of --model.tiny.kv_heads ({self.kv_heads})."
            )


def base_config(token_lm: TokenLM, init_from: str, tiny: TinyOptions = TinyOptions()) -> PretrainedConfig:
    """Return the configuration of the base without loading weights, with as many rows as the layout has.

    Raises:
        ConfigError: if there is no such base, or it is another model.
    """
    if init_from == TINY:
        return token_lm.tiny_config(tiny)
    _refuse_missing_folder(token_lm, init_from, Path(init_from).expanduser())
    try:
        values, _ = PretrainedConfig.get_config_dict(init_from, local_files_only=unreachable())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--model.init_from {init_from}: {why_missing(error, init_from)} {_what_to_give(token_lm)}"
        ) from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"--model.init_from {init_from}: its config.json holds no object. {_what_to_give(token_lm)}")
    config = config_of(token_lm, values, init_from)
    _check_rows(token_lm, config.vocab_size, init_from)
    # Rows that the base lacks are added when its weights are loaded.
    config.vocab_size = token_lm.layout.output_rows
    return config


def config_of(token_lm: TokenLM, values: Mapping[str, Any], source: str) -> PretrainedConfig:
    """Return the configuration that plain values, those of a config.json, describe.

    Args:
        token_lm: The model that it has to be.
        values: Values by name.
        source: Where they come from, for messages.

    Raises:
        ConfigError: if it is a kind of network that cannot be trained as this model.
    """
    # Descriptions in checkpoints of before do not name their kind.
    kind = values.get("model_type") or token_lm.model_types[0]
    allowed = [each for each in token_lm.model_types if token_lm.model_class or each in SUPPORTED]
    if kind not in allowed:
        which = " or ".join(map(repr, allowed))
        raise ConfigError(f"--model.init_from {source} is a {kind!r} model, and {token_lm.name} is a {which}.")
    # A model with a class of its own may have a configuration of its own too.
    made = token_lm.network_class.config_class if token_lm.model_class else CONFIG_MAPPING[kind]
    config: PretrainedConfig = made.from_dict(dict(values))
    _check_values(token_lm, config, source)
    # Packed documents are attended to whole: a window that is passed over would train another network.
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ConfigError(
            f"--model.init_from {source} attends in a sliding window (use_sliding_window), and packed documents are "
            "attended to in full. Choose a base without one."
        )
    return config


def empty_network(
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    device: str = "cpu",
    network_class: Any = None,  # noqa: ANN401
) -> PreTrainedModel:
    """Build the network with uninitialised weights; on ``meta`` only shapes, with its rotary buffers on the CPU.

    Filling it is ``load_base`` or ``load_state_dict``; the random generators are not touched. ``network_class`` is the
    model's own, where transformers has none for the configuration.
    """
    from accelerate import init_empty_weights

    # Buffers are made for real: rotary frequencies are in no checkpoint.
    with _default_dtype(dtype), init_empty_weights(include_buffers=False):
        made = network_class or _network_class(config)
        lm: PreTrainedModel = made._from_config(config, attn_implementation=ATTENTION, dtype=dtype)
    lm.tie_weights()
    if device != "meta":
        for module in lm.modules():
            for name, parameter in module.named_parameters(recurse=False):
                empty = torch.empty_like(parameter, device=device)
                setattr(module, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
        lm.tie_weights()
    return lm


def load_base(
    token_lm: TokenLM,
    init_from: str,
    *,
    dtype: torch.dtype = torch.float32,
    tiny: TinyOptions = TinyOptions(),
) -> PreTrainedModel:
    """Load or make the base on the CPU, in ``dtype``, with as many rows as the layout has.

    A base without rows for ``token_lm.optional_rows`` gets them: each is the mean of the others.

    Raises:
        ConfigError: if there is no such base, or it is another model.
    """
    if init_from == TINY:
        return _tiny(token_lm, tiny, dtype)
    config = base_config(token_lm, init_from)
    try:
        kind = token_lm.network_class or _network_class(config)
        lm, found = kind.from_pretrained(
            init_from,
            dtype=dtype,
            attn_implementation=ATTENTION,
            # A pickle could run code.
            use_safetensors=True,
            local_files_only=unreachable(),
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        why = f"no weights could be read: {why_missing(error, init_from)} {_what_to_give(token_lm)}"
        raise ConfigError(f"--model.init_from {init_from}: {why}") from error
    if gone := sorted(found["missing_keys"]):
        # transformers makes random ones up, and only logs it.
        raise ConfigError(
            f"--model.init_from {init_from}: {len(gone)} weights are missing, the first being {gone[0]}. "
            f"{_what_to_give(token_lm)}"
        )
    if lm.config.vocab_size < token_lm.layout.output_rows:
        _add_rows(token_lm, lm)
    # transformers loads for evaluation, and layers recompute nothing there, whatever they are told.
    made: PreTrainedModel = lm.train()
    return made


def use_attention(lm: PreTrainedModel, name: str) -> None:
    """Let the networks of ``lm`` attend by another implementation.

    A released configuration may hold that of a codec whose network is left out; transformers warns of setting that.
    """
    here = {id(module.config) for module in lm.modules() if isinstance(module, PreTrainedModel)}
    parts = {part: getattr(lm.config, part) for part in lm.config.sub_configs}
    chosen = {part: name if id(config) in here else config._attn_implementation for part, config in parts.items()}
    lm.set_attn_implementation({"": name, **chosen})


def _network_class(config: PretrainedConfig) -> Any:  # noqa: ANN401 - a class of transformers
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def _what_to_give(token_lm: TokenLM) -> str:
    return f"{_WHAT_TO_GIVE} {token_lm.where_to_get_it}".rstrip()


def _check_rows(token_lm: TokenLM, rows: int, init_from: str) -> None:
    wanted, optional = token_lm.layout.output_rows, token_lm.optional_rows
    if rows not in (wanted, wanted - len(optional)):
        fewer = f", or {wanted - len(optional)} without {', '.join(optional)}" if optional else ""
        raise ConfigError(
            f"--model.init_from {init_from} has {rows} vocabulary rows. {token_lm.name} has {wanted}{fewer}; choose a "
            f"checkpoint of {token_lm.name}."
        )


def _check_values(token_lm: TokenLM, config: PretrainedConfig, init_from: str) -> None:
    """Refuse a network of other parts than the layout's ids are for, before its weights are read."""
    wrong = []
    for name, allowed in token_lm.base_values.items():
        wanted = operator.attrgetter(allowed)(config) if isinstance(allowed, str) else allowed
        found = operator.attrgetter(name)(config)
        if found != wanted:
            as_in = f", as {allowed}" if isinstance(allowed, str) else ""
            wrong.append(f"{name} is {found} and must be {wanted}{as_in}")
    if wrong:
        raise ConfigError(
            f"--model.init_from {init_from}: its config.json is not of a {token_lm.name}: {'; '.join(wrong)}. Choose "
            f"a checkpoint of {token_lm.name}, such as {token_lm.base}."
        )


def _refuse_missing_folder(token_lm: TokenLM, init_from: str, path: Path) -> None:
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ConfigError(
            f"--model.init_from {init_from} is an adapter without its base. Export the run with --format merged and "
            "start from that."
        )
    # A hub name has exactly one slash. With none or several a folder was meant, and the hub need not be asked.
    looks_local = init_from.startswith((".", "/", "~")) or init_from.count("/") != 1
    if looks_local and not (path / "config.json").is_file():
        found = "has no config.json" if path.is_dir() else "is no folder"
        raise ConfigError(f"--model.init_from {init_from} {found}. {_what_to_give(token_lm)}")


def _add_rows(token_lm: TokenLM, lm: Any) -> None:  # noqa: ANN401 - a model of transformers
    rows, wanted = lm.config.vocab_size, token_lm.layout.vocab_size
    about = (rows, wanted - rows, ", ".join(token_lm.optional_rows))
    logger.info("The base has %d vocabulary rows: adding %d for %s, the mean of the others.", *about)
    tables = [lm.get_input_embeddings()] if lm.config.tie_word_embeddings else [lm.get_input_embeddings(), lm.lm_head]
    # In float32: a sum over 150,000 rows in half precision would be far off.
    means = [table.weight.data.mean(dim=0, dtype=torch.float32) for table in tables]
    lm.resize_token_embeddings(wanted, mean_resizing=False)
    tables = [lm.get_input_embeddings(), lm.lm_head][: len(tables)]
    for table, mean in zip(tables, means, strict=True):
        table.weight.data[rows:] = mean


def _tiny(token_lm: TokenLM, tiny: TinyOptions, dtype: torch.dtype) -> PreTrainedModel:
    config = token_lm.tiny_config(tiny)
    lm = empty_network(config, dtype=torch.float32, network_class=token_lm.network_class)
    generator = torch.Generator().manual_seed(tiny.seed)
    embedding = lm.get_input_embeddings().weight
    # By name, since the order of modules may change with transformers and the draws must not.
    for name, parameter in sorted(lm.named_parameters()):
        if parameter.ndim > 1:
            # Rows of length 1, so that a narrow network's logits, products with them, can tell ids apart at all.
            std = config.hidden_size**-0.5 if parameter is embedding else 0.02
            nn.init.normal_(parameter, std=std, generator=generator)
        elif name.endswith(".bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.ones_(parameter)
    # Rounded after drawing, so that the tiny base is one network in every type.
    for parameter in lm.parameters():
        parameter.data = parameter.data.to(dtype)
    return lm


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
