"""A Llama as a GGUF file: its tokenizer and one tensor at a time, then read back and compared with what was trained."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_train.contract.reports import ExportReport
from tts_train.disk.place import check_place, staged_file, staged_folder
from tts_train.disk.provenance import Provenance
from tts_train.errors import ConfigError, TTSTrainError
from tts_train.families.token_lm.export.check import probe_row
from tts_train.families.token_lm.export.gguf_kinds import FALLBACKS, FILE_TYPES, differences, kind_of, rounded
from tts_train.families.token_lm.export.model_folder import whole_model
from tts_train.families.token_lm.speaking.sources import TrainedRun, open_run

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import TokenLayout
    from tts_train.families.token_lm.model import TokenLM


_NUL = "\u0100"
"""The name of the byte 0, which no text has."""


@dataclass(frozen=True)
class GgufTokens:
    """One entry for each row of the embedding, by id."""

    names: list[str]
    types: list[int]
    merges: list[str]

    def describe(self, writer: gguf.GGUFWriter, token_lm: TokenLM) -> None:
        """Write the table and the special ids."""
        layout = token_lm.layout
        # llama.cpp's name for byte-level BPE.
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(token_lm.gguf_pre_tokenizer)
        writer.add_token_list(self.names)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_bos_token_id(layout.begin_of_text)
        # The text model's end, which other converters take over, never comes after speech: generation would not stop.
        writer.add_eos_token_id(layout.end_of_speech)
        writer.add_pad_token_id(layout.text_pad)
        # As in training, for programs that tokenise the text themselves.
        writer.add_add_bos_token(True)


def read_tokens(layout: TokenLayout, tokenizer: PreTrainedTokenizerBase, *, rows: int) -> GgufTokens:
    """Read a fast byte-level tokenizer into a table of exactly ``rows`` tokens; ids that it lacks get a name.

    Raises:
        ConfigError: if it is no byte-level BPE, or has ids beyond ``rows``.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model: dict[str, Any] = described["model"]
    if model.get("type") != "BPE" or "ByteLevel" not in json.dumps(described["pre_tokenizer"]):
        raise ConfigError(
            f"llama.cpp needs a byte-level BPE, and this tokenizer is {model.get('type')}. Give --tokenizer."
        )
    by_id = {index: name for name, index in tokenizer.get_vocab().items()}
    if max(by_id) >= rows:
        raise ConfigError(
            f"The tokenizer has ids up to {max(by_id)} and the network {rows} rows. Give its own --tokenizer."
        )
    added = {entry["id"]: bool(entry["special"]) for entry in described["added_tokens"]}
    # Older files have a pair as one string, newer ones as a list.
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    names = [by_id.get(index, f"[PAD{index}]") for index in range(rows)]
    if not merges:
        # llama.cpp refuses a table without merges, and others a merge whose result has no id: two bytes 0 get one that
        # nothing is made of, as nothing is merged.
        names[next(index for index, name in enumerate(names) if len(name) > 1)] = _NUL * 2
        merges = [f"{_NUL} {_NUL}"]
    types = [int(_type(layout, index, index in by_id, added)) for index in range(rows)]
    return GgufTokens(names=names, types=types, merges=merges)


def _type(layout: TokenLayout, index: int, known: bool, added: dict[int, bool]) -> gguf.TokenType:
    if not known:
        return gguf.TokenType.UNUSED
    if layout.slot_of(index) >= 0:
        # llama.cpp prints these and hides control tokens; programs read the codes from the text.
        return gguf.TokenType.USER_DEFINED
    if index in added:
        return gguf.TokenType.CONTROL if added[index] else gguf.TokenType.USER_DEFINED
    return gguf.TokenType.NORMAL


_log = logging.getLogger(__name__)

SUFFIX = ".gguf"
_ARCHITECTURE = "llama"
BACKEND_KEY, STAGE_KEY, STEP_KEY = "tts_train.backend", "tts_train.stage", "tts_train.step"
CODEC_KEY = "tts_train.codec"

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def export_gguf(token_lm: TokenLM, source: Path, out: Path, *, dtype: str, tokenizer: str | None) -> ExportReport:
    """Write a run as a GGUF file.

    Raises:
        ConfigError: if ``out`` is taken, or the network has no place in this format.
        DataError: if there is no checkpoint.
        TTSTrainError: if a tensor does not read back as it was written.
    """
    _check_place(out)
    if token_lm.gguf_pre_tokenizer is None:
        raise ConfigError(f"llama.cpp does not know the tokenizer of {token_lm.name}. Use --format hf.")
    run = open_run(token_lm, source)
    words = run.tokenizer(tokenizer)
    lm, measured = whole_model(run, probe_row(token_lm, words), torch.float32)
    if lm.config.model_type != _ARCHITECTURE:
        raise ConfigError(
            f"GGUF files are written of a {_ARCHITECTURE!r}, and this is a {lm.config.model_type!r}. Use --format hf."
        )
    tokens = read_tokens(token_lm.layout, words, rows=lm.config.vocab_size)
    file = out if out.suffix == SUFFIX else out / f"{out.resolve().name}-{dtype}{SUFFIX}"
    # A single file has no place for a card beside it; what synth must know is among its own entries.
    if file is out:
        with staged_file(out) as path:
            measured |= _write_and_check(path, lm, tokens, run, dtype)
    else:
        with staged_folder(out) as folder:
            measured |= _write_and_check(folder / file.name, lm, tokens, run, dtype)
            Provenance(token_lm.backend, run.checkpoint.card.stage, "gguf", run.checkpoint.step, run.facts).write(
                folder
            )
    return ExportReport(
        format="gguf",
        path=str(out),
        files=[file.name],
        verified=True,
        dtype=dtype,
        step=run.checkpoint.step,
        measured=measured,
    )


def tensors_of(lm: LlamaForCausalLM) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the file with its name, in float32, in llama.cpp's order of rows."""
    config, weights = lm.config, lm.state_dict()
    yield "token_embd.weight", weights["model.embed_tokens.weight"].float()
    factors = rope_factors(lm)
    if factors is not None:
        yield "rope_freqs.weight", factors
    for layer in range(config.num_hidden_layers):
        for name, module in _LAYER.items():
            tensor = weights[f"model.layers.{layer}.{module}.weight"].float()
            if name in ("attn_q", "attn_k"):
                heads = config.num_attention_heads if name == "attn_q" else config.num_key_value_heads
                tensor = pair_rotary_rows(tensor, heads)
            yield f"blk.{layer}.{name}.weight", tensor
    yield "output_norm.weight", weights["model.norm.weight"].float()
    # Without an output matrix of its own llama.cpp takes the embedding.
    if lm.lm_head.weight is not lm.model.embed_tokens.weight:
        yield "output.weight", weights["lm_head.weight"].float()


def pair_rotary_rows(weight: Tensor, heads: int) -> Tensor:
    """Reorder the rows of a query or key matrix: rotary partners lie half a head apart here and side by side there."""
    rows, columns = weight.shape
    halves = weight.view(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def rope_factors(lm: LlamaForCausalLM) -> Tensor | None:
    """Return what each rotary frequency is divided by (head_dim / 2,), or None where none is scaled.

    Taken from the frequencies that the network computes with, so that any scaling of single frequencies is right.

    Raises:
        ConfigError: if the scaling is of another kind.
    """
    rotary = lm.model.rotary_emb
    if rotary.attention_scaling != 1:
        raise ConfigError("This network scales its attention with its positions, for which GGUF export has no place.")
    # In float64: where nothing is scaled the quotient must be 1.
    scaled = rotary.inv_freq.double().cpu()
    plain = _theta(lm.config) ** (-torch.arange(len(scaled), dtype=torch.float64) / len(scaled))
    factors = (plain / scaled).float()
    return None if torch.allclose(factors, torch.ones_like(factors), rtol=1e-5) else factors


def _write_and_check(
    path: Path, lm: LlamaForCausalLM, tokens: GgufTokens, run: TrainedRun, dtype: str
) -> dict[str, Any]:
    write_gguf(run.token_lm, path, lm, tokens, dtype=dtype, provenance=_provenance(run))
    measured = read_back(run.token_lm, path, lm, tokens, dtype=dtype)
    wider = {name: count for name, count in measured["types"].items() if dtype == "q4_k" and name in FALLBACKS}
    if wider:
        _log.warning(
            "q4_k needs rows of a multiple of 256. As llama.cpp does, matrices of other sizes got wider types: %s.",
            ", ".join(f"{count} {name}" for name, count in wider.items()),
        )
    return measured


def write_gguf(
    token_lm: TokenLM,
    path: Path,
    lm: LlamaForCausalLM,
    tokens: GgufTokens,
    *,
    dtype: str,
    provenance: dict[str, str | int],
) -> None:
    """Write the file; no more than one tensor is converted at a time."""
    writer = gguf.GGUFWriter(path, _ARCHITECTURE)
    for key, value in provenance.items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    _describe(writer, token_lm, lm.config, tokens, dtype)
    kind_for = _kinds(lm, dtype)
    for name, tensor in tensors_of(lm):
        # The table of tensors stands before their data, so all sizes are computed first.
        kind, shape = kind_for(name, tensor), tuple(tensor.shape)
        size = int(np.prod(gguf.quant_shape_to_byte_shape(shape, kind)))
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in tensors_of(lm):
        writer.write_tensor_data(rounded(tensor, kind_for(name, tensor)))
    writer.close()


def read_back(token_lm: TokenLM, path: Path, lm: LlamaForCausalLM, tokens: GgufTokens, *, dtype: str) -> dict[str, Any]:
    """Read the file and compare every tensor, and the tokenizer's table, with what should be in it.

    Raises:
        TTSTrainError: naming what differs by more than the type's rounding.
    """
    reader = _Reader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    kind_for, largest, kinds = _kinds(lm, dtype), 0.0, Counter[str]()
    for name, tensor in tensors_of(lm):
        if name not in found:
            raise _damaged(f"tensor {name} is missing")
        kind = kind_for(name, tensor)
        if found[name].tensor_type != kind:
            raise _damaged(f"tensor {name} is {found[name].tensor_type.name} and should be {kind.name}")
        for wanted, values, near in differences(tensor, found[name]):
            if not near:
                raise _damaged(f"tensor {name} differs by more than {kind.name} rounds")
            largest = max(largest, float(np.abs(wanted - values).max()))
        kinds[kind.name] += 1
    _check_table(reader, tokens, kinds.total(), stop=token_lm.layout.end_of_speech)
    counts = {"tensors": kinds.total(), "types": dict(kinds), "vocabulary": len(tokens.names)}
    return {**counts, "max_weight_difference": largest}


class _Reader(gguf.GGUFReader):  # type: ignore[misc] # a package without types
    """The format's reader over a plain array; half a million slices of numpy's file arrays took most of its time."""

    @property
    def data(self) -> NDArray[np.uint8]:
        return self._data

    @data.setter
    def data(self, mapped: NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)


def _check_table(reader: gguf.GGUFReader, tokens: GgufTokens, count: int, *, stop: int) -> None:
    found = reader.get_field("tokenizer.ggml.eos_token_id")
    names = reader.get_field("tokenizer.ggml.tokens")
    if len(reader.tensors) != count:
        raise _damaged(f"it has {len(reader.tensors)} tensors and should have {count}")
    if names is None or names.contents() != tokens.names:
        raise _damaged("its list of tokens is not the one written")
    if found is None or found.contents() != stop:
        raise _damaged(f"its stop token is not {stop}")


def _kinds(lm: LlamaForCausalLM, dtype: str) -> Callable[[str, Tensor], gguf.GGMLQuantizationType]:
    """Return what tells a tensor's type by its name."""
    layers, tied = lm.config.num_hidden_layers, lm.lm_head.weight is lm.model.embed_tokens.weight
    return lambda name, tensor: kind_of(name, tuple(tensor.shape), dtype, layers=layers, tied=tied)


def _describe(writer: gguf.GGUFWriter, token_lm: TokenLM, config: LlamaConfig, tokens: GgufTokens, dtype: str) -> None:
    head = config.head_dim or config.hidden_size // config.num_attention_heads
    writer.add_name(token_lm.name)
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(_theta(config))
    writer.add_rope_dimension_count(head)
    tokens.describe(writer, token_lm)


def _theta(config: LlamaConfig) -> float:
    return float(config.rope_parameters["rope_theta"])


def _provenance(run: TrainedRun) -> dict[str, str | int]:
    card: dict[str, str | int] = {
        BACKEND_KEY: run.token_lm.backend,
        STAGE_KEY: run.checkpoint.card.stage,
        STEP_KEY: run.checkpoint.step,
    }
    return card | ({CODEC_KEY: run.codec} if run.codec else {})


def _check_place(out: Path) -> None:
    if out.suffix != SUFFIX:
        check_place(out)
    elif out.is_dir():
        raise ConfigError(f"--out {out} is a folder. Choose another name for the file.")
    elif out.exists() and not _is_ours(out):
        raise ConfigError(f"--out {out} is there already and no earlier export of ours. Choose another --out.")


def _is_ours(path: Path) -> bool:
    # Provenance is written first, so that the tables of tokens need not be read.
    with path.open("rb") as file:
        start = file.read(1024)
    return start.startswith(b"GGUF") and BACKEND_KEY.encode() in start


def _damaged(what: str) -> TTSTrainError:
    return TTSTrainError(f"Reading the GGUF file back: {what}. Nothing was left behind. Is the disk sound?")
