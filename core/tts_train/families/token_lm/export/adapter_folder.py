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
from tts_train.families.token_lm.export.check import (
    greedy_codes,
    logits_of,
    probe_row,
    require_equal_logits,
    require_equal_weights,
    require_same_codes,
)
from tts_train.families.token_lm.export.model_folder import write_words
from tts_train.families.token_lm.layout import FramesRead
from tts_train.families.token_lm.network.adapters import LoraOptions, adapted_modules, adapter_weights, lora_config
from tts_train.families.token_lm.speaking.sources import TrainedRun, open_run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork

WEIGHTS = "adapter_model.safetensors"
_INSIDE = "base_model.model."
"""What PEFT puts before the base's own names; under them it loads rows that were trained in full straight into the
base: one copy where they are tied."""


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
    network = run.network(torch.float32)
    # In float32, as they were trained; what is loaded beside them may be rounded by whoever loads it.
    weights, rows = adapter_weights(network), trained_rows(run, network)
    modules, said = adapted_modules(network, _lora(run)), _says(token_lm, network, words)
    del network  # the base is loaded a second time below
    with staged_folder(out) as folder:
        write_adapter(run, weights | rows, folder, modules)
        write_words(token_lm, words, folder)
        measured = _read_back(run, folder, weights | rows, said, words, resized=bool(rows))
        title = push_to or out.resolve().name
        card = model_card(run, title=title, kind="adapter", dtype="float32", rows_trained=bool(rows))
        (folder / "README.md").write_text(card, encoding="utf-8")
        card_of = run.checkpoint.card
        Provenance(token_lm.backend, card_of.stage, "peft", run.checkpoint.step, run.facts).write(folder)
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


def trained_rows(run: TrainedRun, network: TokenNetwork) -> dict[str, Tensor]:
    """Return embedding and output matrix under PEFT's names, as far as they were trained beside the adapters."""
    lora, lm = _lora(run), network.lm
    asked = [(lora.train_embedding, lm.get_input_embeddings()), (lora.train_head and not network.tied, lm.lm_head)]
    wanted = [id(table.weight) for trained, table in asked if trained]
    named = lm.named_parameters()  # the first name of each, which is the embedding's where the head is tied to it
    return {f"{_INSIDE}{name}": weight.data.contiguous() for name, weight in named if id(weight) in wanted}


def write_adapter(run: TrainedRun, weights: dict[str, Tensor], folder: Path, modules: str | list[str]) -> None:
    """Write PEFT's two files; a base in a local folder is named by its full path."""
    from safetensors.torch import save_file

    config = lora_config(_lora(run))
    config.target_modules = modules
    local = Path(run.base).expanduser()
    # The full path, since the adapter may be loaded from any folder.
    config.base_model_name_or_path = str(local.resolve()) if local.is_dir() else run.base
    # Else PEFT would load it ready to be trained on.
    config.inference_mode = True
    config.save_pretrained(folder)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _read_back(
    run: TrainedRun,
    folder: Path,
    weights: dict[str, Tensor],
    said: Tensor | FramesRead,
    words: PreTrainedTokenizerBase,
    *,
    resized: bool,
) -> dict[str, Any]:
    from peft import PeftModel
    from safetensors.torch import load_file

    tensors = require_equal_weights(weights, load_file(folder / WEIGHTS), "Reading the adapter back")
    base = run.base_network()
    if resized and base.config.vocab_size < run.token_lm.layout.output_rows:
        base.resize_token_embeddings(run.token_lm.layout.vocab_size, mean_resizing=False)
    adapted = PeftModel.from_pretrained(base, str(folder)).eval()
    if isinstance(said, FramesRead):
        return {"tensors": tensors, **require_same_codes(run.token_lm, said, adapted, words)}
    found = logits_of(adapted, probe_row(run.token_lm, words))
    rows = found.shape[-1]  # fewer than ours where the base has none for optional tokens
    return {"tensors": tensors, "read_back": require_equal_logits(said[:, :rows], found, "Reading the adapter back")}


def _says(token_lm: TokenLM, network: TokenNetwork, words: PreTrainedTokenizerBase) -> Tensor | FramesRead:
    """Return what is compared: logits, and greedy codes where a released class has no logits of a whole row."""
    if token_lm.released_class is not None:
        return greedy_codes(token_lm, network.lm, words)
    return logits_of(network.lm, probe_row(token_lm, words))


def _lora(run: TrainedRun) -> LoraOptions:
    values: dict[str, Any] = dict(run.model.get("lora") or {})
    if "targets" in values:
        values["targets"] = tuple(values["targets"])
    return LoraOptions(**values)
