"""The folder that upstream's script leaves behind, beside ours of the same model: entries, tensors, files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.qwen3_tts.filling import fill_all
from tests.qwen3_tts.reference import DESCRIPTIVE
from tests.qwen3_tts.upstream_loss import UPSTREAM, UpstreamNetwork
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.frames.batch import pad_frames
from tts_train.families.token_lm.network.start import empty_network
from tts_train_qwen3_tts.codec.files import write_codec
from tts_train_qwen3_tts.codec.load import load_codec
from tts_train_qwen3_tts.export import CONFIG, GENERATION, WEIGHTS, CustomVoiceExport, upstream_config, write_tokenizer
from tts_train_qwen3_tts.model import load_tokenizer
from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig
from tts_train_qwen3_tts.networks.talker import Qwen3TTSLM
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

TOLD = DESCRIPTIVE | {"what", "config_before", "loads_with_speaker_argument", "safetensors_metadata_after"}
"""Fields that describe; the metadata that upstream leaves out is ``format`` here, which its loader takes as well."""


def check(data: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield every figure of the file."""
    (given,) = data["spk_id_as_written"]
    lm = _network(data, voices=[given.lower()])
    lm.voices = torch.linspace(-1, 1, lm.voices.numel()).view_as(lm.voices).bfloat16()
    before = lm.state_dict()
    config = upstream_config(lm.config)
    job = CustomVoiceExport(source=Path("run"), out=Path("out"))
    after = job.changed(lm, config)
    own = {name for name in before if name != "voices"}
    dropped = [name for name in own if name.startswith(data["dropped_prefix"])]
    table = "talker.model.codec_embedding.weight"
    written = (after[table] != before[table]).any(dim=1).nonzero().flatten().tolist()
    yield Figure("keys_before", data["keys_before"], len(own))
    yield Figure("dropped_count", data["dropped_count"], len(dropped))
    yield Figure("keys_after", data["keys_after"], sorted(after))
    yield Figure("dtypes_after", data["dtypes_after"], sorted({str(tensor.dtype) for tensor in after.values()}))
    yield Figure("embedding_row_written", [data["embedding_row_written"]], written)
    yield Figure("config_after", _sorted(_lowered(data["config_after"])), _sorted(config))
    names = {name.lower(): row for name, row in data["spk_id_as_written"].items()}
    yield Figure("spk_id_as_written", names, config["talker_config"]["spk_id"], note="in lower case, to be found")
    missing = sorted(set(data["files_after"]) - _files())
    yield Figure("files_after", [], missing, note="files of upstream's that ours lacks")
    still = "bitwise_unchanged_after_two_steps"
    yield Figure(still, data[still], _unchanged(data))
    known = TOLD | {"keys_before", "dropped_prefix", "dropped_count", "keys_after", "dtypes_after", "config_after"}
    known |= {"embedding_row_written", "spk_id_as_written", "files_after", still}
    yield from (unknown(name, data[name]) for name in data if name not in known)


def _network(data: Mapping[str, Any], *, voices: list[str]) -> Qwen3TTSLM:
    """Return the base in bfloat16, without the speakers that upstream's script takes out of it."""
    values = deepcopy(data["config_before"])
    values["talker_config"] |= {"spk_id": {}, "spk_is_dialect": {}}
    config = Qwen3TTSConfig(**values, voices=voices)
    lm: Any = empty_network(config, dtype=torch.bfloat16, network_class=Qwen3TTSLM)
    named = [(name, tensor.shape) for name, tensor in lm.state_dict().items() if name != "voices"]
    lm.load_state_dict(fill_all(named, salt=data["salt"], dtype=torch.bfloat16), strict=False)
    made: Qwen3TTSLM = lm
    return made


def _files() -> set[str]:
    """Return the names of the files that an export writes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(load_tokenizer("tiny"), folder)
        write_codec(load_codec("tiny"), folder / "speech_tokenizer")
        written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return written | {CONFIG, GENERATION, WEIGHTS}


def _unchanged(data: Mapping[str, Any]) -> list[str]:
    """Train as upstream does, in pure bfloat16, for two steps, and return what is the same bit for bit."""
    lm = _network(data, voices=["one"])
    network = UpstreamNetwork(lm, lm.layout, UPSTREAM["upstream_head"])
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    trained = [weight for name, weight in lm.named_parameters() if not name.startswith(data["dropped_prefix"])]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, weight_decay=0.01)
    batch: Any = pad_frames([_row(lm, number) for number in range(2)], lm.layout)
    for _ in range(2):
        network(batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    after: Mapping[str, Tensor] = lm.state_dict()
    same = (name for name in before if torch.equal(before[name], after[name]))
    # Neither is trained by it: vectors, and the encoder that made them.
    return sorted(name for name in same if name != "voices" and not name.startswith(data["dropped_prefix"]))


def _row(lm: Qwen3TTSLM, number: int) -> Document:
    layout, draw = lm.layout, np.random.default_rng(number)
    prompt = Qwen3TTSPrompt(layout=layout)
    body = draw.integers(0, 360, 6 + number).tolist()
    text = prompt.positions(body, role=[364, 366, 367], speaker=layout.voice_base)
    codes = list(draw.integers(0, layout.codes, (layout.slots, 9 + number)))
    return Document(str(number), prompt.speech_row(text, layout.codes_to_tokens(codes)).input_ids)


def _lowered(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries with the names of speakers in lower case, as upstream's own lookup wants them."""
    made: dict[str, Any] = deepcopy(dict(config))
    for entry in ("spk_id", "spk_is_dialect"):
        made["talker_config"][entry] = {name.lower(): value for name, value in made["talker_config"][entry].items()}
    return made


def _sorted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries in one order at every level."""
    return {name: _sorted(value) if isinstance(value, dict) else value for name, value in sorted(config.items())}
