"""Orpheus's network: a Llama whose forward is the loss, its base weights, and its tiny form."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from tts_train.errors import ConfigError
from tts_train.nn.linear_cross_entropy import HeadOutput, RowGroup, linear_cross_entropy
from tts_train.nn.packed_attention import register

from tts_train_orpheus import layout

if TYPE_CHECKING:
    from typing_extensions import Self

    from tts_train_orpheus.batch import TokenBatch

logger = logging.getLogger(__name__)

TINY = "tiny"
"""The value of ``--model.init_from`` that needs no files."""

_ATTENTION = register()
_HUB_HELP = (
    "Give a local folder with config.json and *.safetensors, a run directory or checkpoint, 'tiny', or a hub name. The canopylabs weights are gated: "
    "accept their licence on the model's page and log in with 'hf auth login', or use a mirror without a gate such as "
    "unsloth/orpheus-3b-0.1-pretrained."
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


@dataclass(frozen=True)
class HeadOptions:
    """How the output layer and its loss are computed."""

    chunk_tokens: int = 1024
    """Tokens whose logits exist at a time: 1,024 over 156,940 entries take 0.9 GiB in bf16, fewer take less."""
    softmax: Literal["full", "audio", "slot"] = "full"
    """Entries an audio position's training loss sees: ``full`` all of them, as the released models were trained;
    ``audio`` the added tokens; ``slot`` the 4,096 codes of its own slot, and where a frame may begin also the end of
    speech. With ``slot`` generation must be held to the slots too. Validation always sees all of them."""

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise ConfigError(f"--model.head.chunk_tokens must be at least 1, and {self.chunk_tokens} was given.")
        if self.softmax not in ("full", "audio", "slot"):
            raise ConfigError(f"--model.head.softmax is full, audio or slot, and {self.softmax!r} was given.")


@dataclass(frozen=True, kw_only=True)
class NetworkOutput:
    """What a forward gives."""

    loss_sum: Tensor
    """Sum of the token losses in nats, with a gradient."""
    count: int
    """Tokens that carry a loss."""
    head: HeadOutput
    """Target, loss and prediction of each of these tokens, without a gradient."""

    @property
    def loss(self) -> Tensor:
        """Mean loss of a token; 0 where no token carries one."""
        return self.loss_sum / max(self.count, 1)


class OrpheusNetwork(nn.Module):
    """A Llama with its loss in ``forward``, where sharding strategies have the output matrix at hand.

    Args:
        lm: A ``LlamaForCausalLM`` whose attention is ``tts_packed``; adapters may have been put into it.
        head: How the loss is computed.
    """

    lm: LlamaForCausalLM

    def __init__(self, lm: LlamaForCausalLM, head: HeadOptions = HeadOptions()) -> None:
        super().__init__()
        self.lm = lm
        self.head = head

    @property
    def config(self) -> LlamaConfig:
        """The Llama's configuration."""
        return self.lm.config

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding."""
        return self.lm.lm_head.weight is self.lm.model.embed_tokens.weight

    def forward(self, batch: TokenBatch) -> NetworkOutput:
        """Return the loss of a batch; the softmax is restricted only while training."""
        hidden = self.hidden_states(batch)
        targets = batch["targets"].flatten()
        head = linear_cross_entropy(
            hidden.flatten(0, 1),
            self.lm.lm_head.weight,
            targets,
            chunk_tokens=self.head.chunk_tokens,
            row_groups=_row_groups(targets, self.head.softmax, self.config.vocab_size) if self.training else (),
        )
        return NetworkOutput(loss_sum=head.loss_sum, count=head.count, head=head)

    def hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the states (B, T, hidden) that the output matrix is applied to."""
        output = self.lm.model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            cu_seqlens=batch["cu_seqlens"],
            max_seqlen=batch["max_seqlen"],
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state
        return states

    def enable_checkpointing(self) -> None:
        """Recompute each layer in backward instead of keeping its activations."""
        # Renamed within transformers 5, which warns about the older name.
        enable = getattr(self.lm, "activation_checkpointing_enable", None) or self.lm.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as usual, but keep the rotary frequencies in float32: bfloat16 would blur long positions."""
        rotary = self.lm.model.rotary_emb
        kept = {name: buffer for name, buffer in rotary.named_buffers() if buffer.device.type != "meta"}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            setattr(rotary, name, buffer.to(getattr(rotary, name).device))
        return self


def _row_groups(targets: Tensor, softmax: str, vocabulary: int) -> Sequence[RowGroup]:
    """Return the rows that audio positions see; the end of speech stands where a frame could begin, so it is one."""
    slots = layout.slot_of(targets)
    begins = targets == layout.END_OF_SPEECH
    if softmax == "audio":
        return [RowGroup(tokens=(slots >= 0) | begins, rows=((layout.CUSTOM_BASE, vocabulary),))]
    if softmax == "slot":
        ranges = [_slot_rows(slot) for slot in range(layout.SLOTS)]
        masks = [(slots == 0) | begins, *(slots == slot for slot in range(1, layout.SLOTS))]
        return [RowGroup(tokens=mask, rows=rows) for mask, rows in zip(masks, ranges, strict=True)]
    return ()


def _slot_rows(slot: int) -> tuple[tuple[int, int], ...]:
    start = layout.AUDIO_BASE + slot * layout.CODEBOOK_SIZE
    codes = (start, start + layout.CODEBOOK_SIZE)
    return ((layout.END_OF_SPEECH, layout.END_OF_SPEECH + 1), codes) if slot == 0 else (codes,)


def base_config(init_from: str, tiny: TinyOptions = TinyOptions()) -> LlamaConfig:
    """Return the configuration of the base without loading weights, with Orpheus's number of rows.

    Raises:
        ConfigError: if there is no such base, or it is not an Orpheus.
    """
    if init_from == TINY:
        return _tiny_config(tiny)
    path = Path(init_from).expanduser()
    if _is_run(path):
        return _run_config(path)
    _refuse_missing_folder(init_from, path)
    try:
        config = LlamaConfig.from_pretrained(init_from)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model.init_from {init_from}: no configuration could be read. {_HUB_HELP}") from error
    _check(config, init_from)
    config.vocab_size = layout.VOCAB_SIZE
    return config


def empty_network(config: LlamaConfig, *, dtype: torch.dtype, device: str = "cpu") -> LlamaForCausalLM:
    """Build the Llama with uninitialised weights; on ``meta`` only shapes, with its rotary buffers on the CPU.

    Filling it is ``load_base`` or ``load_state_dict``; the random generators are not touched.
    """
    from accelerate import init_empty_weights

    with _default_dtype(dtype), init_empty_weights(include_buffers=False):
        lm = LlamaForCausalLM._from_config(config, attn_implementation=_ATTENTION)
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
    path = Path(init_from).expanduser()
    if _is_run(path):
        return _from_run(path, dtype)
    base_config(init_from)
    try:
        lm = LlamaForCausalLM.from_pretrained(
            init_from, dtype=dtype, attn_implementation=_ATTENTION, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model.init_from {init_from}: no weights could be read. {_HUB_HELP}") from error
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


def _is_run(path: Path) -> bool:
    return (path / "MANIFEST.json").is_file() or (path / "checkpoints").is_dir()


def _run_config(path: Path) -> LlamaConfig:
    from tts_train_orpheus.sources import open_run

    run = open_run(path)
    return LlamaConfig.from_dict(run.checkpoint.state("orpheus_config")["orpheus_config"])


def _from_run(path: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    """Load what a run trained; its adapters become part of the base."""
    from tts_train_orpheus.adapters import merge
    from tts_train_orpheus.sources import open_run

    run = open_run(path)
    network = run.network(dtype)
    if run.adapted:
        merge(network)
    network.lm.set_attn_implementation(_ATTENTION)
    return network.requires_grad_(True).train().lm


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
    for _, parameter in sorted(lm.named_parameters()):
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02, generator=generator)
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
