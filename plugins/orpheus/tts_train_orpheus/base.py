"""The base that training starts from: a released or exported model, or the tiny one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tts_train.errors import ConfigError
from tts_train.hub import unreachable, why_missing
from tts_train.nn.packed_attention import register
from tts_train_orpheus import layout

logger = logging.getLogger(__name__)

TINY = "tiny"
"""The value of ``--model.init_from`` that needs no files."""

ATTENTION = register()
_HUB_HELP = (
    "Give a local folder with config.json and *.safetensors, a run directory or checkpoint, 'tiny', or a hub name. "
    "The canopylabs weights are gated: accept their licence on the model's page and log in with 'hf auth login', or "
    "use a mirror without a gate such as unsloth/orpheus-3b-0.1-pretrained."
)


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


def base_config(init_from: str, tiny: TinyOptions = TinyOptions()) -> LlamaConfig:
    """Return the configuration of the base without loading weights, with Orpheus's number of rows.

    Raises:
        ConfigError: if there is no such base, or it is not an Orpheus.
    """
    if init_from == TINY:
        return _tiny_config(tiny)
    _refuse_missing_folder(init_from, Path(init_from).expanduser())
    try:
        config = LlamaConfig.from_pretrained(init_from, local_files_only=unreachable())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model.init_from {init_from}: {why_missing(error, init_from)} {_HUB_HELP}") from error
    _check(config, init_from)
    config.vocab_size = layout.VOCAB_SIZE
    return config


def empty_network(config: LlamaConfig, *, dtype: torch.dtype, device: str = "cpu") -> LlamaForCausalLM:
    """Build the Llama with uninitialised weights; on ``meta`` only shapes, with its rotary buffers on the CPU.

    Filling it is ``load_base`` or ``load_state_dict``; the random generators are not touched.
    """
    from accelerate import init_empty_weights

    with _default_dtype(dtype), init_empty_weights(include_buffers=False):
        lm = LlamaForCausalLM._from_config(config, attn_implementation=ATTENTION, dtype=dtype)
    lm.tie_weights()
    if device != "meta":
        for module in lm.modules():
            for name, parameter in module.named_parameters(recurse=False):
                empty = torch.empty_like(parameter, device=device)
                setattr(module, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
        lm.tie_weights()
    return lm


def load_base(
    init_from: str,
    *,
    dtype: torch.dtype = torch.float32,
    tiny: TinyOptions = TinyOptions(),
) -> LlamaForCausalLM:
    """Load or make the base on the CPU, in ``dtype``, with 156,940 rows.

    A base with one row fewer (the pretrained release) gets a row for ``<|audio|>``: the mean of the others, which
    leaves every other probability nearly as it was (Hewitt 2021); the row is never a target.

    Raises:
        ConfigError: if there is no such base, or it is not an Orpheus.
    """
    if init_from == TINY:
        return _tiny(tiny, dtype)
    base_config(init_from)
    try:
        lm = LlamaForCausalLM.from_pretrained(
            init_from,
            dtype=dtype,
            attn_implementation=ATTENTION,
            use_safetensors=True,
            local_files_only=unreachable(),
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--model.init_from {init_from}: no weights could be read: {why_missing(error, init_from)} {_HUB_HELP}"
        ) from error
    if lm.config.vocab_size < layout.VOCAB_SIZE:
        _add_audio_row(lm)
    return lm


def _check(config: LlamaConfig, init_from: str) -> None:
    if config.model_type != "llama":
        raise ConfigError(f"--model.init_from {init_from} is a {config.model_type!r} model, and Orpheus is a 'llama'.")
    if config.vocab_size not in (layout.VOCAB_SIZE, layout.VOCAB_SIZE - 1):
        raise ConfigError(
            f"--model.init_from {init_from} has {config.vocab_size} vocabulary rows. Orpheus has {layout.VOCAB_SIZE}, "
            f"or {layout.VOCAB_SIZE - 1} in the pretrained release; choose an Orpheus checkpoint."
        )


def _refuse_missing_folder(init_from: str, path: Path) -> None:
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ConfigError(
            f"--model.init_from {init_from} is an adapter without its base. Export the run with --format merged and "
            "start from that."
        )
    looks_local = init_from.startswith((".", "/", "~")) or init_from.count("/") != 1
    if looks_local and not (path / "config.json").is_file():
        found = "has no config.json" if path.is_dir() else "is no folder"
        raise ConfigError(f"--model.init_from {init_from} {found}. {_HUB_HELP}")


def _add_audio_row(lm: LlamaForCausalLM) -> None:
    logger.info("The base has %d vocabulary rows: adding one for <|audio|>, the mean of the others.", lm.vocab_size)
    tables = [lm.get_input_embeddings()] if lm.config.tie_word_embeddings else [lm.get_input_embeddings(), lm.lm_head]
    means = [table.weight.data.mean(dim=0, dtype=torch.float32) for table in tables]
    lm.resize_token_embeddings(layout.VOCAB_SIZE, mean_resizing=False)
    tables = [lm.get_input_embeddings(), lm.lm_head][: len(tables)]
    for table, mean in zip(tables, means, strict=True):
        table.weight.data[-1] = mean


def _tiny_config(tiny: TinyOptions) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=layout.VOCAB_SIZE,
        hidden_size=tiny.hidden,
        intermediate_size=tiny.mlp,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        head_dim=tiny.hidden // tiny.heads,
        rms_norm_eps=1e-5,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
        rope_parameters={"rope_theta": 500000.0, **_ROPE},
        bos_token_id=layout.BEGIN_OF_TEXT,
        eos_token_id=layout.END_OF_TURN,
        pad_token_id=layout.TEXT_PAD,
    )


_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _tiny(tiny: TinyOptions, dtype: torch.dtype) -> LlamaForCausalLM:
    lm = empty_network(_tiny_config(tiny), dtype=torch.float32)
    generator = torch.Generator().manual_seed(tiny.seed)
    embedding = lm.get_input_embeddings().weight
    for _, parameter in sorted(lm.named_parameters()):
        if parameter.ndim > 1:
            # Rows of length 1, so that a narrow network's logits, products with them, can tell ids apart at all.
            std = tiny.hidden**-0.5 if parameter is embedding else 0.02
            nn.init.normal_(parameter, std=std, generator=generator)
        else:
            nn.init.ones_(parameter)
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
