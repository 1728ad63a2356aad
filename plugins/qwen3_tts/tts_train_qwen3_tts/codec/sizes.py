"""The sizes of a codec, read from the config.json of its folder; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil
from typing import Any, TypeVar

from tts_train.contract import ConfigError
from tts_train_qwen3_tts import layout

SAMPLE_RATE, FRAME_SAMPLES = layout.LAYOUT.sample_rate, layout.LAYOUT.frame_samples
CODEBOOKS, CODEBOOK_SIZE = layout.CODEBOOKS, layout.CODES
MODEL_TYPE = "qwen3_tts_tokenizer_12hz"
RELEASED = "Qwen/Qwen3-TTS-Tokenizer-12Hz"
"""The codec of all released models, by its hub name."""
SUFFIX = "#window="
"""What stands between a codec's source and ``on`` or ``off``, where one word chooses both."""
LAYOUT = {
    "encoder_valid_num_quantizers": CODEBOOKS,
    "input_sample_rate": SAMPLE_RATE,
    "output_sample_rate": SAMPLE_RATE,
    "encode_downsample_rate": FRAME_SAMPLES,
    "decode_upsample_rate": FRAME_SAMPLES,
}
"""What config.json says of every codec whose codes Qwen3-TTS speaks in."""


@dataclass(frozen=True, kw_only=True)
class CodecSizes:
    """Fields are named as in the released file; what it says besides them is not needed."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int
    rope_theta: float
    sliding_window: int
    codebook_size: int
    codebook_dim: int
    num_quantizers: int
    upsampling_ratios: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class EncoderSizes(CodecSizes):
    """``encoder_config``: a Mimi's."""

    num_filters: int
    kernel_size: int
    residual_kernel_size: int
    last_kernel_size: int
    compress: int
    norm_eps: float


@dataclass(frozen=True, kw_only=True)
class DecoderSizes(CodecSizes):
    """``decoder_config``."""

    latent_dim: int
    decoder_dim: int
    rms_norm_eps: float
    upsample_rates: tuple[int, ...]

    @property
    def wave_reach(self) -> int:
        """Frames before it that sound depends on behind the transformer, rounded up."""
        # Kernels of 7 reach 6 steps back, those of a transposed convolution twice as long as its stride one.
        steps, rate = Fraction(0), 1
        for ratio in self.upsampling_ratios:
            rate *= ratio
            steps += Fraction(6, rate)
        steps += Fraction(6, rate)
        for ratio in self.upsample_rates:
            steps += Fraction(1, rate)
            rate *= ratio
            steps += Fraction(6 * (1 + 3 + 9), rate)
        return ceil(steps + Fraction(6, rate))

    @property
    def reach(self) -> int:
        """Frames before it that the sound of a frame depends on; it depends on none after it."""
        return 2 + self.num_hidden_layers * (self.sliding_window - 1) + self.wave_reach


FIXED: dict[type[CodecSizes], dict[str, Any]] = {
    EncoderSizes: {
        "num_semantic_quantizers": 1,
        "num_residual_layers": 1,
        "audio_channels": 1,
        "use_causal_conv": True,
        "use_conv_shortcut": False,
        "pad_mode": "constant",
        "hidden_act": "gelu",
        "attention_bias": False,
    },
    DecoderSizes: {"num_semantic_quantizers": 1, "hidden_act": "silu", "attention_bias": False},
}
"""What could be another way by the file, and is not in any release."""
_ADVICE = {
    "qwen3_tts_tokenizer_25hz": "The tokenizer of 25 frames a second has other codes.",
    "qwen3_tts": "It is a model without its folder speech_tokenizer.",
}
_Part = TypeVar("_Part", bound=CodecSizes)


def read_sizes(kind: type[_Part], config: Mapping[str, Any], where: str) -> _Part:
    """Return the sizes that a part of config.json says.

    Raises:
        ConfigError: naming what is missing, or what this codec does not know.
    """
    # transformers 5 writes rope_theta in a table of its own.
    config = {**(config.get("rope_parameters") or {}), **config}
    needed = [field.name for field in fields(kind)]
    # transformers' defaults are not those of the released files, so none is taken.
    if missing := [name for name in needed if config.get(name) is None]:
        raise ConfigError(f"{where} does not say {', '.join(missing)}. Download the folder again, or use {RELEASED}.")
    _check(config, {**FIXED[kind], "num_key_value_heads": config["num_attention_heads"]}, where, absent_is_fine=True)
    said: dict[str, Any] = {name: config[name] for name in needed}
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return kind(**known)


def check_layout(config: Mapping[str, Any], where: str) -> None:
    """Check that a codec makes the codes that Qwen3-TTS speaks in.

    Raises:
        ConfigError: naming each value that is another.
    """
    # The type first: of another one, everything else would be reported as missing.
    if (kind := config.get("model_type")) != MODEL_TYPE:
        advice = _ADVICE.get(str(kind), "")
        raise ConfigError(f"{where} is of {kind!r}, and not of {MODEL_TYPE!r}. {advice} Use {RELEASED}.")
    _check(config, LAYOUT, where)
    _check(config.get("encoder_config") or {}, {"codebook_size": CODEBOOK_SIZE}, f"{where} (encoder_config)")
    books = {"codebook_size": CODEBOOK_SIZE, "num_quantizers": CODEBOOKS}
    _check(config.get("decoder_config") or {}, books, f"{where} (decoder_config)")


def _check(config: Mapping[str, Any], due: Mapping[str, Any], where: str, *, absent_is_fine: bool = False) -> None:
    said = {**due, **config} if absent_is_fine else config
    if wrong := [
        f"{name} {said.get(name)!r} instead of {value!r}" for name, value in due.items() if said.get(name) != value
    ]:
        raise ConfigError(f"{where} is of no codec that Qwen3-TTS can use: {', '.join(wrong)}. Use {RELEASED}.")
