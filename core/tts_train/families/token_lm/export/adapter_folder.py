"""Adapters as folders for PEFT, and how they are checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.contract.reports import ExportReport
from tts_train.disk.place import check_place, files_in, push, staged_folder
from tts_train.disk.provenance import Provenance
from tts_train.errors import ConfigError
from tts_train.families.token_lm.export.card import model_card
from tts_train.families.token_lm.export.check import logits_of, probe_row, require_equal_logits, require_equal_weights
from tts_train.families.token_lm.export.model_folder import check_tokenizer_folder, write_tokenizer
from tts_train.families.token_lm.network.adapters import LoraOptions, adapter_weights, lora_config
from tts_train.families.token_lm.speaking.sources import TrainedRun, open_run

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork

WEIGHTS = "adapter_model.safetensors"
EMBEDDING, HEAD = "base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"
"""Names under which PEFT loads rows that were trained in full, straight into the base: one copy where they are tied."""


def export_adapter_folder(
    token_lm: TokenLM, source: Path, out: Path, *, tokenizer: str | None, push_to: str | None
) -> ExportReport:
    """Write the adapter of a run.

    Raises:
        ConfigError: if ``out`` is taken, or the run trained every weight.
        DataError: if there is no checkpoint.
        TTSTrainError: if what was written does not read back as what was trained.
    """
    check_place(out)
    run = open_run(token_lm, source)
    if not run.adapted:
        raise ConfigError(f"{source} trained every weight, so it has no adapter. Use --format hf.")
    words = run.tokenizer(tokenizer)
    row = probe_row(token_lm, words)
    network = run.network(torch.float32)
    weights = trained_weights(run, network)
    expected = logits_of(network.lm, row)
    del network  # the base is loaded a second time below
    with staged_folder(out) as folder:
        write_adapter(run, weights, folder)
        write_tokenizer(token_lm, words, folder)
        check_tokenizer_folder(token_lm, folder)
        measured = _read_back(run, folder, weights, expected, row)
        title = push_to or out.resolve().name
        card = model_card(run, title=title, kind="adapter", dtype="float32", rows_trained=EMBEDDING in weights)
        (folder / "README.md").write_text(card, encoding="utf-8")
        Provenance(token_lm.backend, run.checkpoint.card.stage, "peft", run.checkpoint.step, run.facts).write(folder)
    return ExportReport(
        format="peft",
        path=str(out),
        files=files_in(out),
        verified=True,
        base=run.base,
        step=run.checkpoint.step,
        measured=measured,
        more=push(out, push_to),
    )


def trained_weights(run: TrainedRun, network: TokenNetwork) -> dict[str, Tensor]:
    """Return the adapters' matrices and the rows trained beside them, under PEFT's names."""
    lora = _lora(run)
    weights = adapter_weights(network)
    if lora.train_embedding:
        weights[EMBEDDING] = network.lm.model.embed_tokens.weight.data
    if lora.train_head and not network.tied:
        weights[HEAD] = network.lm.lm_head.weight.data
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def write_adapter(run: TrainedRun, weights: dict[str, Tensor], folder: Path) -> None:
    """Write PEFT's two files; a base in a local folder is named by its full path."""
    from safetensors.torch import save_file

    config = lora_config(_lora(run))
    local = Path(run.base).expanduser()
    config.base_model_name_or_path = str(local.resolve()) if local.is_dir() else run.base
    config.inference_mode = True
    config.save_pretrained(folder)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _read_back(run: TrainedRun, folder: Path, weights: dict[str, Tensor], expected: Tensor, row: Ids) -> dict[str, Any]:
    from peft import PeftModel
    from safetensors.torch import load_file

    tensors = require_equal_weights(weights, load_file(folder / WEIGHTS), "Reading the adapter back")
    base = run.base_network()
    if EMBEDDING in weights or HEAD in weights:
        base.resize_token_embeddings(run.token_lm.layout.vocab_size, mean_resizing=False)
    rows = base.get_input_embeddings().num_embeddings
    found = logits_of(PeftModel.from_pretrained(base, str(folder)).eval(), row)
    measured = require_equal_logits(expected[:, :rows], found[:, :rows], "Reading the adapter back")
    return {"tensors": tensors, "read_back": measured}


def _lora(run: TrainedRun) -> LoraOptions:
    values: dict[str, Any] = dict(run.model.get("lora") or {})
    if "targets" in values:
        values["targets"] = tuple(values["targets"])
    return LoraOptions(**values)
