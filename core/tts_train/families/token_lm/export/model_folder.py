"""Whole models as folders for transformers and vLLM, older ones too, and how they are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tts_train.contract.reports import ExportReport
from tts_train.disk.files import write_json
from tts_train.disk.place import check_place, files_in, push, staged_folder
from tts_train.disk.provenance import Provenance
from tts_train.errors import ConfigError, TTSTrainError
from tts_train.families.token_lm.export.card import model_card
from tts_train.families.token_lm.export.check import (
    compare_logits,
    logits_of,
    probe_row,
    require_equal_logits,
    require_equal_weights,
)
from tts_train.families.token_lm.network.adapters import merge
from tts_train.families.token_lm.speaking.sources import TrainedRun, open_run

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM


CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"


def add_older_names(folder: Path) -> None:
    """Say beside the newer entries of a written folder what transformers 4 looks for.

    Without these entries it takes a rotary base of 10,000 and no scaling, without an error, and says other tokens.

    Args:
        folder: A model, a tokenizer or both, as transformers 5 wrote them.
    """
    if (folder / CONFIG).is_file():
        _change_config(folder / CONFIG)
    if (folder / TOKENIZER).is_file():
        _change_tokenizer(folder / TOKENIZER)


def _change_config(file: Path) -> None:
    config = _read(file)
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else rope
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    write_json(file, dict(sorted(config.items())))


def _change_tokenizer(file: Path) -> None:
    config = _read(file)
    # TokenizersBackend is a class of transformers 5; this one is its name in both.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config.pop("backend", None)
    if isinstance(config.get("extra_special_tokens"), list):  # transformers 4 expects a table under this name
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    write_json(file, config)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

_SHARD = "5GB"
_TEXT = "Hello, it's a test."


def export_model_folder(
    token_lm: TokenLM, source: Path, out: Path, *, name: str, dtype: str, tokenizer: str | None, push_to: str | None
) -> ExportReport:
    """Write a run as a whole model; ``name`` is ``hf`` or ``merged``.

    Raises:
        ConfigError: if ``out`` is taken, or ``merged`` is asked of a run without adapters.
        DataError: if there is no checkpoint.
        TTSTrainError: if what was written does not read back as what was trained.
    """
    check_place(out)
    run = open_run(token_lm, source)
    if name == "merged" and not run.adapted:
        raise ConfigError(f"{source} trained every weight, so there is nothing to merge. Use --format hf.")
    words = run.tokenizer(tokenizer)
    row = probe_row(token_lm, words)
    lm, measured = whole_model(run, row, DTYPES[dtype])
    with staged_folder(out) as folder:
        write_model(token_lm, lm, words, folder, softmax=run.softmax)
        measured |= read_back(token_lm, folder, lm, row)
        card = model_card(run, title=push_to or out.resolve().name, kind="model", dtype=dtype)
        (folder / "README.md").write_text(card, encoding="utf-8")
        Provenance(token_lm.backend, run.checkpoint.card.stage, name, run.checkpoint.step, run.facts).write(folder)
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
    # Nothing is added to the weights, so they can be rounded while they are loaded.
    if not run.adapted:
        return run.network(dtype).lm, {}
    network = run.network(torch.float32)
    before = logits_of(network.lm, row)
    # Compared before rounding, which has a difference of its own.
    merge(network)
    merged = logits_of(network.lm, row)
    measured: dict[str, Any] = {"merge": require_equal_logits(before, merged, "Merging the adapter")}
    if dtype != torch.float32:
        # Parameters alone: rotary frequencies must stay in float32.
        for parameter in network.lm.parameters():
            parameter.data = parameter.data.to(dtype)
        measured["rounding"] = compare_logits(merged, logits_of(network.lm, row))
    return network.lm.requires_grad_(False), measured


def write_model(
    token_lm: TokenLM, lm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path, *, softmax: str
) -> None:
    """Write weights, configuration, generation settings and tokenizer, with one pad id and one end in all of them."""
    from transformers import GenerationConfig

    layout, sampling = token_lm.layout, token_lm.sampling
    lm.config.bos_token_id = layout.begin_of_text
    lm.config.pad_token_id = layout.text_pad
    # Servers take the stop token from whichever of the three files they read first, so all say the same.
    lm.config.eos_token_id = layout.end_of_speech
    if softmax != "full":
        setattr(lm.config, token_lm.softmax_key, softmax)
    lm.generation_config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        max_new_tokens=token_lm.max_new_tokens,
        bos_token_id=layout.begin_of_text,
        eos_token_id=layout.end_of_speech,
        pad_token_id=layout.text_pad,
    )
    lm.save_pretrained(folder, max_shard_size=_SHARD)
    write_tokenizer(token_lm, tokenizer, folder)


def write_tokenizer(token_lm: TokenLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer whose end is the stop token and whose chat template is the prompt of training."""
    layout = token_lm.layout
    # Servers stop where the tokenizer's end comes, whatever the model's configuration says.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(layout.end_of_speech)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(layout.text_pad)
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # only what stands in the latter is written
    if token_lm.chat_template is not None:
        tokenizer.chat_template = token_lm.chat_template
    tokenizer.save_pretrained(folder)
    add_older_names(folder)


def write_words(token_lm: TokenLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what makes the prompts of training, and check that it does when it is read.

    Raises:
        TTSTrainError: if it does not.
    """
    if token_lm.write_words is not None:
        token_lm.write_words(tokenizer, folder)
        return
    write_tokenizer(token_lm, tokenizer, folder)
    check_tokenizer_folder(token_lm, folder)


def read_back(token_lm: TokenLM, folder: Path, lm: LlamaForCausalLM, row: Ids) -> dict[str, Any]:
    """Load a folder with the ordinary loaders and compare it with the network that was written.

    Raises:
        TTSTrainError: if a weight, a logit, the stop token or the tokenizer's ids differ.
    """
    from transformers import AutoModelForCausalLM

    layout = token_lm.layout
    # As anyone would load it: the check is of the files and not of what is in memory.
    found = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tensors = require_equal_weights(lm.state_dict(), found.state_dict(), "Reading the export back")
    stops = {found.config.eos_token_id, found.generation_config.eos_token_id}
    if stops != {layout.end_of_speech} or found.get_input_embeddings().num_embeddings != layout.vocab_size:
        raise TTSTrainError(
            f"Reading the export back: its stop tokens are {stops} and should be {layout.end_of_speech}."
        )
    logits = require_equal_logits(logits_of(lm, row), logits_of(found, row), "Reading the export back")
    check_tokenizer_folder(token_lm, folder)
    return {"tensors": tensors, "read_back": logits}


def check_tokenizer_folder(token_lm: TokenLM, folder: Path) -> None:
    """Load a written tokenizer the ordinary way and check that it makes the prompt of training.

    Raises:
        TTSTrainError: if it does not.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    layout, form = token_lm.layout, token_lm.prompt
    prompt = chat = form.inference_prompt(form.encode_text(tokenizer, _TEXT)).tolist()
    if token_lm.chat_template is not None:
        message = [{"role": "user", "content": _TEXT}]
        # A server makes its prompts with the template, so it is the template that must be right.
        chat = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=False)
    if tokenizer.eos_token_id != layout.end_of_speech or list(chat) != prompt:
        raise TTSTrainError(
            f"Reading the tokenizer back: it ends with {tokenizer.eos_token_id} and a chat begins {list(chat)[:4]}…, "
            f"and {layout.end_of_speech} and {prompt[:4]}… are right. Give another --tokenizer."
        )
