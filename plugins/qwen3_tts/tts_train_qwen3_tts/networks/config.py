"""The configuration of a released Qwen3-TTS: its config.json as it is, and the parts that networks are built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig, Qwen3Config

from tts_train.contract import ConfigError

_STACK = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
"""What a stack's section must say: the defaults of the class that released models are loaded with are other ones."""


_TEXT_ROWS = tuple(f"{name}_token_id" for name in ("tts_pad", "tts_bos", "tts_eos", "im_start", "im_end"))
_NAMED = ("spk_id", "spk_is_dialect", "codec_language_id")
_ADVICE = "Choose a released Qwen3-TTS of 12 Hz."


def _entry(name: str) -> Any:  # noqa: ANN401 - a property
    def get(config: Qwen3TTSConfig) -> Any:  # noqa: ANN401
        # transformers asks what there is of a configuration that is still empty.
        if config.talker_config.get(name) is None:
            raise AttributeError(name)
        return config.talker_config[name]

    return property(get, doc=f"The talker's {name}.")


class Qwen3TTSConfig(PretrainedConfig):  # type: ignore[misc]
    """The entries of a released config.json, and which voices a run has vectors for."""

    model_type = "qwen3_tts"
    # What the family asks of a language model's configuration is asked of the talker's section.
    hidden_size = _entry("hidden_size")
    num_hidden_layers = _entry("num_hidden_layers")
    num_attention_heads = _entry("num_attention_heads")
    num_key_value_heads = _entry("num_key_value_heads")
    intermediate_size = _entry("intermediate_size")
    head_dim = _entry("head_dim")
    max_position_embeddings = _entry("max_position_embeddings")

    def __init__(
        self,
        talker_config: Mapping[str, Any] | None = None,
        speaker_encoder_config: Mapping[str, Any] | None = None,
        voices: list[str] | None = None,
        **given: Any,  # noqa: ANN401
    ) -> None:
        self.talker_config = dict(talker_config or {})
        self.speaker_encoder_config = None if speaker_encoder_config is None else dict(speaker_encoder_config)
        self.voices = list(voices or [])
        given["tie_word_embeddings"] = False
        # Afterwards, as transformers looks for the text's control ids among the codes, and warns of each.
        text_ids = {name: given.pop(name) for name in list(given) if name.endswith("_token_id")}
        super().__init__(**given)
        for name, row in text_ids.items():
            setattr(self, name, row)

    @property
    def talker(self) -> dict[str, Any]:
        """The section of the language model."""
        return self.talker_config

    @property
    def predictor(self) -> dict[str, Any]:
        """The section of the code predictor."""
        return dict(self.talker_config.get("code_predictor_config") or {})

    @property
    def kind(self) -> str:
        """``base``, ``custom_voice`` or ``voice_design``."""
        return str(getattr(self, "tts_model_type", "base"))

    @property
    def hertz(self) -> int:
        """Frames a second of the codec's family: 12, or 25 for one that was never released."""
        return 25 if "25hz" in str(getattr(self, "tokenizer_type", "")) else 12

    @property
    def codes(self) -> int:
        """Codes of each codebook."""
        return int(self.predictor.get("vocab_size", 0))

    @property
    def books(self) -> int:
        """Codebooks."""
        return int(self.talker_config.get("num_code_groups", 0))

    @property
    def text_rows(self) -> int:
        """Rows of the text table."""
        return int(self.talker_config.get("text_vocab_size", 0))

    @property
    def begin_row(self) -> int:
        """Row of the codec's table that begins speech."""
        return int(self.talker_config.get("codec_bos_id", 0))

    @property
    def end_row(self) -> int:
        """Row of the codec's table that ends speech."""
        return int(self.talker_config.get("codec_eos_token_id", 0))

    @property
    def vocab_size(self) -> int:
        """Rows of the first codebook's output matrix."""
        return int(self.talker_config.get("vocab_size", 0))

    @vocab_size.setter
    def vocab_size(self, rows: int) -> None:
        self.talker_config["vocab_size"] = rows

    def stack(self, section: Mapping[str, Any]) -> Qwen3Config:
        """Return the configuration of the layers that a section describes; the rotary form is the plain one."""
        values = {name: section[name] for name in _STACK if name != "rope_theta"}
        # Three grids of positions that are always equal: multimodal rotation is the plain one.
        rope = {"rope_type": "default", "rope_theta": float(section["rope_theta"])}
        config = Qwen3Config(**values, hidden_act="silu", attention_bias=False, rope_parameters=rope)
        config._attn_implementation = self._attn_implementation
        return config

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **given: Any) -> Any:  # noqa: ANN401 - as its base has it
        """Return the configuration that a file's values describe.

        Raises:
            ConfigError: as :meth:`check`.
        """
        talker = config_dict.get("talker_config")
        parts = [talker, talker.get("code_predictor_config") if isinstance(talker, Mapping) else None]
        if not all(isinstance(part, Mapping) for part in parts):
            raise ConfigError(f"config.json lacks talker_config or its code_predictor_config. {_ADVICE}")
        made = super().from_dict(config_dict, **given)
        (made[0] if isinstance(made, tuple) else made).check()
        return made

    def check(self) -> None:
        """Refuse a configuration that networks cannot be built from.

        Raises:
            ConfigError: naming what is missing by its place in config.json.
        """
        sections = {"talker_config": self.talker, "talker_config.code_predictor_config": self.predictor}
        gone = [
            f"{where}.{name}"
            for where, each in sections.items()
            for name in _STACK
            if not isinstance(each.get(name), int | float)
        ]
        needed = ("text_vocab_size", "text_hidden_size", "num_code_groups")
        gone += [f"talker_config.{name}" for name in needed if self.talker.get(name) is None]
        gone += [name for name in _TEXT_ROWS if getattr(self, name, None) is None]
        if gone:
            raise ConfigError(f"config.json lacks {', '.join(gone)}. {_ADVICE}")
        for name in _NAMED:
            if not isinstance(self.talker.get(name) or {}, Mapping):
                raise ConfigError(f"talker_config.{name} of config.json must be an object. {_ADVICE}")
