"""Folders that upstream's ``qwen-tts`` loads: a voice that is chosen by name, or a base that clones voices."""

from __future__ import annotations

import json
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.contract import ConfigError
from tts_train.disk import write_json
from tts_train.families.token_lm import FolderExport
from tts_train_qwen3_tts.model import QWEN3_TTS, table_row

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig
    from tts_train_qwen3_tts.networks.talker import Qwen3TTSLM

WEIGHTS, CONFIG, GENERATION = "model.safetensors", "config.json", "generation_config.json"
FIRST_ROW, LAST_ROW, LEAST_ROW = 3000, 3071, 2158
"""Rows of the codec's table for new speakers: from upstream's own on, then those below it that nothing uses."""
_GENERATION: dict[str, Any] = {
    "do_sample": True,
    "top_k": 50,
    "top_p": 1.0,
    "temperature": 0.9,
    "repetition_penalty": 1.05,
    "subtalker_dosample": True,
    "subtalker_top_k": 50,
    "subtalker_top_p": 1.0,
    "subtalker_temperature": 0.9,
    "max_new_tokens": 8192,
}
_OWN = ("voices", "_name_or_path", "transformers_version", "dtype", "torch_dtype", "id2label", "label2id")


@dataclass(kw_only=True)
class QwenFolderExport(FolderExport):
    """Write a folder for ``Qwen3TTSModel.from_pretrained`` of qwen-tts, its codec in it; adapters are merged first."""

    token_lm = QWEN3_TTS

    def changed(self, lm: Qwen3TTSLM, config: dict[str, Any]) -> dict[str, Tensor]:
        """Return the weights to write by name, and change what config.json says."""
        raise NotImplementedError

    def write(self, folder: Path, run: Any, network: Any, words: PreTrainedTokenizerBase) -> dict[str, Any]:  # noqa: ANN401
        """Write config, weights, tokenizer and codec, then read the folder as a model to speak with."""
        from safetensors.torch import save_file

        from tts_train_qwen3_tts.codec.files import write_codec
        from tts_train_qwen3_tts.codec.load import load_codec

        lm = network.lm
        config = upstream_config(lm.config)
        tensors = {name: tensor.contiguous() for name, tensor in self.changed(lm, config).items()}
        write_json(folder / CONFIG, config)
        write_json(folder / GENERATION, _generation_of(run.base))
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        write_tokenizer(words, folder)
        write_codec(load_codec(self.codec_of(run)), folder / "speech_tokenizer")
        return {"tensors": len(tensors), "greedy_frames": self.read_back(folder, lm, words)}


@dataclass(kw_only=True)
class CustomVoiceExport(QwenFolderExport):
    """Write a folder whose speakers are chosen by name: ``generate_custom_voice(speaker=...)`` of qwen-tts."""

    format_name = "custom_voice"

    speaker_name: str | None = None
    """Name of the speaker of data that name none; lower case, as qwen-tts asks for it."""

    def changed(self, lm: Qwen3TTSLM, config: dict[str, Any]) -> dict[str, Tensor]:
        """Write each voice into a row of the codec's table, and leave the speaker encoder out."""
        talker = config["talker_config"]
        rows = {name.lower(): table_row(row) for name, row in talker["spk_id"].items()}
        dialects = {name.lower(): tag for name, tag in talker["spk_is_dialect"].items()}
        if not lm.config.voices and not rows:
            raise ConfigError("The run knows no speaker, so there is none to name. Export it with --format base.")
        names = self._names(lm.config.voices)
        # A copy, since the network is compared with what is read back.
        table = lm.model.codec_embedding.weight.detach().clone()
        free = _free_rows(rows.values())
        for place, name in enumerate(names):
            # A speaker of the base who was trained further keeps the row.
            if name not in rows:
                if not free:
                    raise ConfigError(f"A model has rows for about 900 speakers, and this one has {len(names)} more.")
                rows[name] = free.pop(0)
            table[rows[name]] = lm.voices[place].to(table)
            dialects.setdefault(name, False)
        talker["spk_id"], talker["spk_is_dialect"] = rows, dialects
        config["tts_model_type"] = "custom_voice"
        kept = {name: tensor for name, tensor in stored(lm).items() if not name.startswith("speaker_encoder.")}
        return {**kept, "talker.model.codec_embedding.weight": table}

    def _names(self, voices: list[str]) -> list[str]:
        named = (self.speaker_name or "").strip().lower()
        if "" in voices and not named:
            raise ConfigError("The data name no speaker. Say how the voice is to be called: --speaker_name NAME.")
        if named and "" not in voices:
            theirs = f"these name {', '.join(voices[:10])}" if voices else "this run trained speakers of its base"
            raise ConfigError(f"--speaker_name {named} is for data that name no speaker, and {theirs}. Leave it out.")
        return [name or named for name in voices]


@dataclass(kw_only=True)
class BaseExport(QwenFolderExport):
    """Write a folder that clones voices, with its speaker encoder: ``generate_voice_clone`` of qwen-tts.

    Of a run that started from a voice-design model it is one again, for ``generate_voice_design``.
    """

    format_name = "base"

    def changed(self, lm: Qwen3TTSLM, config: dict[str, Any]) -> dict[str, Tensor]:
        """Keep everything as the base has it."""
        del config
        if lm.config.kind != "voice_design" and not hasattr(lm, "speaker_encoder"):
            raise ConfigError(
                f"The run started from a {lm.config.kind} model, which has no speaker encoder, and a folder that "
                "clones voices needs one. Export it with --format custom_voice, or train from a Base model."
            )
        return stored(lm)


def stored(lm: Qwen3TTSLM) -> dict[str, Tensor]:
    """Return the weights under their released names."""
    return {name: tensor for name, tensor in lm.state_dict().items() if name != "voices"}


def upstream_config(config: Qwen3TTSConfig) -> dict[str, Any]:
    """Return config.json as upstream reads it, without entries of ours."""
    from transformers import PretrainedConfig

    values: dict[str, Any] = deepcopy(json.loads(config.to_json_string(use_diff=False)))
    plain = PretrainedConfig().to_dict() | {"architectures": None, "tie_word_embeddings": False}
    # What every configuration of transformers has says nothing of this one.
    said = {name: value for name, value in values.items() if name not in plain or plain[name] != value}
    kept = {name: value for name, value in said.items() if name not in _OWN} | {"model_type": config.model_type}
    # Absent entries end upstream's loading, even where there is nothing to name.
    for name in ("spk_id", "codec_language_id", "spk_is_dialect"):
        kept["talker_config"][name] = kept["talker_config"].get(name) or {}
    if kept.get("speaker_encoder_config") is None:
        kept.pop("speaker_encoder_config", None)
    return kept


def write_tokenizer(words: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer as released: vocabulary and merges, and the added tokens beside them."""
    model = words.backend_tokenizer.model
    model.save(str(folder))
    added = {str(index): _added(token) for index, token in sorted(words.added_tokens_decoder.items())}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": added,
            "additional_special_tokens": [token["content"] for token in added.values() if token["special"]],
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<tts_pad>",
            "unk_token": None,
            "errors": "replace",
            "split_special_tokens": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 131072,
        },
    )
    write_json(folder / "preprocessor_config.json", {"processor_class": "Qwen3TTSProcessor", "padding_side": "left"})


def _added(token: Any) -> dict[str, Any]:  # noqa: ANN401 - AddedToken
    flags = ("lstrip", "normalized", "rstrip", "single_word", "special")
    return {"content": token.content, **{name: bool(getattr(token, name)) for name in flags}}


def _generation_of(base: str) -> dict[str, Any]:
    from tts_train_qwen3_tts.codec.files import read_config

    file = Path(base).expanduser() / GENERATION
    return {**_GENERATION, **(read_config(file) if file.is_file() else {})}


def _free_rows(used: Collection[int]) -> list[int]:
    order = [*range(FIRST_ROW, LAST_ROW + 1), *range(LEAST_ROW, FIRST_ROW)]
    return [row for row in order if row not in used]
