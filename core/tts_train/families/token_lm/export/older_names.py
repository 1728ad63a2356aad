"""What transformers 4 reads under other names than transformers 5 writes; vLLM and TGI often bring the older one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tts_train.disk.files import write_json

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
