"""Whole models as folders for transformers and vLLM, and how they are checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tts_train.contract.reports import ExportReport
from tts_train.disk.place import check_place, files_in, push, staged_folder
from tts_train.disk.provenance import Provenance
from tts_train.errors import ConfigError, TTSTrainError
from tts_train_orpheus import layout
from tts_train_orpheus.adapters import merge
from tts_train_orpheus.export.card import model_card
from tts_train_orpheus.export.check import (
    compare_logits,
    logits_of,
    probe_row,
    require_equal_logits,
    require_equal_weights,
)
from tts_train_orpheus.export.older_names import add_older_names
from tts_train_orpheus.layout import Ids
from tts_train_orpheus.prompt import encode_text, inference_prompt
from tts_train_orpheus.sources import SOFTMAX_KEY, TrainedRun, open_run
from tts_train_orpheus.tokenizer import custom_token

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

STOP_TOKEN = custom_token(layout.END_OF_SPEECH - layout.CUSTOM_BASE)

_CHAT_TEMPLATE = (
    "{{- '<custom_token_3>' + bos_token + messages[-1]['content'] + '<|eot_id|><custom_token_4>' -}}"
    "{%- if add_generation_prompt -%}{{- '<custom_token_5><custom_token_1>' -}}{%- endif -%}"
)
"""The prompt of training, so that chat interfaces make it too."""

_SHARD = "5GB"
_TEXT = "Hello, it's a test."


def export_model_folder(
    source: Path, out: Path, *, name: str, dtype: str, tokenizer: str | None, push_to: str | None
) -> ExportReport:
    """Write a run as a whole model; ``name`` is ``hf`` or ``merged``.

    Raises:
        ConfigError: if ``out`` is taken, or ``merged`` is asked of a run without adapters.
        DataError: if there is no checkpoint.
        TTSTrainError: if what was written does not read back as what was trained.
    """
    check_place(out)
    run = open_run(source)
    if name == "merged" and not run.adapted:
        raise ConfigError(f"{source} trained every weight, so there is nothing to merge. Use --format hf.")
    words = run.tokenizer(tokenizer)
    row = probe_row(words)
    lm, measured = whole_model(run, row, DTYPES[dtype])
    with staged_folder(out) as folder:
        write_model(lm, words, folder, softmax=run.softmax)
        measured |= read_back(folder, lm, row)
        card = model_card(run, title=push_to or out.resolve().name, kind="model", dtype=dtype)
        (folder / "README.md").write_text(card, encoding="utf-8")
        Provenance("orpheus", run.checkpoint.card.stage, name, run.checkpoint.step, run.facts).write(folder)
    return ExportReport(
        format=name,
        path=str(out),
        files=files_in(out),
        verified=True,
        dtype=dtype,
        step=run.checkpoint.step,
        measured=measured,
        more=push(out, push_to),
    )


def whole_model(run: TrainedRun, row: Ids, dtype: torch.dtype) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Return a run's network without adapters in ``dtype``, and what merging and rounding changed.

    Adapters are added in float32 to the base as it was before quantisation, and the logits compared before and after.

    Raises:
        TTSTrainError: if the merged network says something else than base and adapter do.
    """
    if not run.adapted:
        return run.network(dtype).lm, {}
    network = run.network(torch.float32)
    before = logits_of(network.lm, row)
    merge(network)
    merged = logits_of(network.lm, row)
    measured: dict[str, Any] = {"merge": require_equal_logits(before, merged, "Merging the adapter")}
    if dtype != torch.float32:
        for parameter in network.lm.parameters():
            parameter.data = parameter.data.to(dtype)
        measured["rounding"] = compare_logits(merged, logits_of(network.lm, row))
    return network.lm.requires_grad_(False), measured


def write_model(lm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path, *, softmax: str) -> None:
    """Write weights, configuration, generation settings and tokenizer, with one pad id and one end in all of them."""
    from transformers import GenerationConfig

    lm.config.bos_token_id = layout.BEGIN_OF_TEXT
    lm.config.pad_token_id = layout.TEXT_PAD
    # Servers take the stop token from whichever of the three files they read first, so all say the same.
    lm.config.eos_token_id = layout.END_OF_SPEECH
    if softmax != "full":
        setattr(lm.config, SOFTMAX_KEY, softmax)
    lm.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        repetition_penalty=1.1,
        max_new_tokens=1200,
        bos_token_id=layout.BEGIN_OF_TEXT,
        eos_token_id=layout.END_OF_SPEECH,
        pad_token_id=layout.TEXT_PAD,
    )
    lm.save_pretrained(folder, max_shard_size=_SHARD)
    write_tokenizer(tokenizer, folder)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer whose end is the stop token and whose chat template is the prompt of training."""
    tokenizer.eos_token = STOP_TOKEN
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(layout.TEXT_PAD)
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # only what stands in the latter is written
    tokenizer.chat_template = _CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    add_older_names(folder)


def read_back(folder: Path, lm: LlamaForCausalLM, row: Ids) -> dict[str, Any]:
    """Load a folder with the ordinary loaders and compare it with the network that was written.

    Raises:
        TTSTrainError: if a weight, a logit, the stop token or the tokenizer's ids differ.
    """
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tensors = require_equal_weights(lm.state_dict(), found.state_dict(), "Reading the export back")
    stops = {found.config.eos_token_id, found.generation_config.eos_token_id}
    if stops != {layout.END_OF_SPEECH} or found.get_input_embeddings().num_embeddings != layout.VOCAB_SIZE:
        raise TTSTrainError(
            f"Reading the export back: its stop tokens are {stops} and should be {layout.END_OF_SPEECH}."
        )
    logits = require_equal_logits(logits_of(lm, row), logits_of(found, row), "Reading the export back")
    check_tokenizer_folder(folder)
    return {"tensors": tensors, "read_back": logits}


def check_tokenizer_folder(folder: Path) -> None:
    """Load a written tokenizer the ordinary way and check that it makes the prompt of training.

    Raises:
        TTSTrainError: if it does not.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = inference_prompt(encode_text(tokenizer, _TEXT)).tolist()
    message = [{"role": "user", "content": _TEXT}]
    chat = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=False)
    if tokenizer.eos_token_id != layout.END_OF_SPEECH or list(chat) != prompt:
        raise TTSTrainError(
            f"Reading the tokenizer back: it ends with {tokenizer.eos_token_id} and a chat begins {list(chat)[:4]}…, "
            f"and {layout.END_OF_SPEECH} and {prompt[:4]}… are right. Give another --tokenizer."
        )
