"""What a set of takes was drawn with: the weights, the texts, the options; another of them makes another set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import xxhash

from tts_train.checkpoints.folder_io import read_manifest
from tts_train.contract.jobs import SynthJob
from tts_train.disk.files import hash_file
from tts_train.errors import ConfigError
from tts_train.run.checkpoint import is_run, open_checkpoint

_WEIGHTS = "model"
"""First letters of the files of a checkpoint that hold weights."""
_LEFT_OUT = ("source", "text", "out", "batch_size", "stream", "pause")
"""Options of a job that change no take."""
_ABOUT = ("README.md", "tts_train.json")
_LONGEST = 60


def hash_weights(source: Path) -> str:
    """Return a hash of what speaks: the weights of a checkpoint, the files of an export, or a name on a hub.

    Args:
        source: A checkpoint directory, an export, or the name of a released model.
    """
    # Their hashes stand in the manifest, which opening the checkpoint has compared with the files.
    if (source / "MANIFEST.json").is_file():
        files = read_manifest(source)["files"]
        return _hashed({name: file["xxh3_128"] for name, file in files.items() if name.startswith(_WEIGHTS)})
    if source.is_file():
        return _hashed({source.name: hash_file(source)})
    # All files: an adapter's configuration names its base, and a tokenizer decides the prompt.
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.is_file() and path.name not in _ABOUT)
        return _hashed({path.relative_to(source).as_posix(): hash_file(path) for path in found})
    return _hashed({"name": source.as_posix(), "commit": _commit(source.as_posix())})


def _commit(name: str) -> str | None:
    """Return the commit of a model that was downloaded before; None if it was not."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    # Looked up on this machine: nothing is asked of the hub to draw takes.
    try:
        file = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(file).parent.name if isinstance(file, str) else None


def _hashed(told: Mapping[str, Any]) -> str:
    return str(xxhash.xxh3_128_hexdigest(json.dumps(told, sort_keys=True).encode()))


def options_of(job: SynthJob) -> dict[str, Any]:
    """Return the options of a job that decide what a line sounds like, in plain types."""
    # By the job's own fields, so that options which a backend adds are compared, too.
    values = {field.name: getattr(job, field.name) for field in fields(job) if field.init}
    kept = {name: _with_weights(value) for name, value in values.items() if name not in _LEFT_OUT}
    # As JSON reads them back: a tuple would differ from the list that it becomes.
    found: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return found


def _with_weights(value: Any) -> Any:  # noqa: ANN401 - the value of any option
    """Return the value of an option; one that names a run, such as a second network's, with the hash of its weights."""
    if not isinstance(value, str | Path) or not value or not is_run(Path(value)):
        return value
    # A run that was trained on meanwhile has the same name and speaks otherwise.
    return f"{value} (weights {hash_weights(open_checkpoint(value).path)})"


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], *, out: Path) -> None:
    """Refuse to go on with takes that were drawn otherwise.

    Args:
        before: What :data:`out` says of itself.
        now: What was asked for.
        out: The folder.

    Raises:
        ConfigError: naming each difference.
    """
    told = [f"{_name(key)} was {_shown(before, key)} and is {_shown(now, key)}" for key in _differing(before, now)]
    if told:
        raise ConfigError(
            f"--out {out} holds takes that were drawn otherwise: {'; '.join(told)}. Choose another --out, or give the "
            "same again; only --reward and --keep may change."
        )


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    # Options of either: a later version may have more.
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]


def _name(key: str) -> str:
    spoken = {"weights_hash": "the hash of the model", "texts_hash": "the hash of the texts", "backend": "the backend"}
    return spoken.get(key, "the stage" if key == "stage" else f"--{key}")


def _shown(values: Mapping[str, Any], key: str) -> str:
    text = str(values.get(key, "not said"))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
