"""Configurations of networks of the released sizes and of small ones; no torch at import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tts_train_qwen3_tts.layout import CODEBOOKS, CODEC_ROWS, CODES, LAYOUT, TEXT_ROWS
from tts_train_qwen3_tts.prompt import LANGUAGES

if TYPE_CHECKING:
    from tts_train.families.token_lm import TinyOptions
    from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig

_TINY_ENCODER: dict[str, Any] = {
    "enc_channels": [16, 16, 16, 16, 48],
    "enc_attention_channels": 8,
    "enc_se_channels": 8,
}


def tiny_config(tiny: TinyOptions) -> Qwen3TTSConfig:
    """Return the configuration of a Qwen3-TTS of some size with the real vocabularies, shaped like the 1.7B."""

    heads = {"num_attention_heads": tiny.heads, "num_key_value_heads": tiny.kv_heads}
    shared = {**heads, "head_dim": tiny.hidden // tiny.heads, "rms_norm_eps": 1e-6, "rope_theta": 1e6}
    predictor = {"hidden_size": tiny.hidden // 2, "intermediate_size": tiny.mlp // 2, "num_hidden_layers": 1}
    predictor |= {"vocab_size": CODES, "num_code_groups": CODEBOOKS, "max_position_embeddings": 65536}
    # Another width than the talker's, as in the released models.
    talker = {"hidden_size": tiny.hidden, "intermediate_size": tiny.mlp, "num_hidden_layers": tiny.layers}
    talker |= {"vocab_size": CODEC_ROWS, "text_vocab_size": TEXT_ROWS, "text_hidden_size": tiny.hidden // 2}
    talker |= {"num_code_groups": CODEBOOKS, "max_position_embeddings": 32768}
    return released_like(
        {**shared, **talker}, {**shared, **predictor}, size="tiny", enc_dim=tiny.hidden, **_TINY_ENCODER
    )


def released_like(
    talker: dict[str, Any],
    predictor: dict[str, Any],
    *,
    size: str,
    kind: str = "base",
    **encoder: Any,  # noqa: ANN401
) -> Qwen3TTSConfig:
    """Return a configuration with the released ids.

    Args:
        talker: Sizes of the language model.
        predictor: Sizes of the code predictor.
        size: ``tts_model_size``.
        kind: ``tts_model_type``.
        encoder: Sizes of the speaker encoder, which a base has.
    """
    from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig

    rows = {"codec_pad_id": 2148, "codec_bos_id": 2149, "codec_eos_token_id": 2150, "codec_think_id": 2154}
    rows |= {"codec_nothink_id": 2155, "codec_think_bos_id": 2156, "codec_think_eos_id": 2157}
    # Maps that name nothing yet are there: without them upstream does not load.
    names: dict[str, Any] = {"codec_language_id": dict(LANGUAGES), "spk_id": {}, "spk_is_dialect": {}}
    return Qwen3TTSConfig(
        talker_config={**talker, **rows, **names, "code_predictor_config": predictor},
        speaker_encoder_config={**encoder, "sample_rate": LAYOUT.sample_rate} if kind == "base" else None,
        tokenizer_type="qwen3_tts_tokenizer_12hz",
        tts_model_size=size,
        tts_model_type=kind,
        im_start_token_id=LAYOUT.begin_of_text,
        im_end_token_id=LAYOUT.end_of_turn,
        tts_pad_token_id=LAYOUT.tts_pad,
        tts_bos_token_id=LAYOUT.tts_bos,
        tts_eos_token_id=LAYOUT.tts_eos,
        assistant_token_id=77091,
        architectures=["Qwen3TTSForConditionalGeneration"],
    )


def released_config(init_from: str) -> Qwen3TTSConfig | None:
    """Return the configuration of a released model by its hub name, so that a plan needs no download."""
    owner, _, name = init_from.partition("/")
    size, _, kind = name.removeprefix("Qwen3-TTS-12Hz-").partition("-")
    kinds = {"Base": "base", "CustomVoice": "custom_voice", "VoiceDesign": "voice_design"}
    if owner != "Qwen" or size not in ("0.6B", "1.7B") or kind not in kinds:
        return None
    width = 1024 if size == "0.6B" else 2048
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    # Every size is said: upstream's classes have other defaults than its releases.
    shared = {**heads, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "num_code_groups": CODEBOOKS}
    talker = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 28, "vocab_size": CODEC_ROWS}
    talker |= {"text_vocab_size": TEXT_ROWS, "text_hidden_size": 2048, "max_position_embeddings": 32768}
    predictor = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 5, "vocab_size": CODES}
    predictor |= {"max_position_embeddings": 65536}
    sizes = "0b6" if size == "0.6B" else "1b7"
    return released_like({**shared, **talker}, {**shared, **predictor}, size=sizes, kind=kinds[kind], enc_dim=width)
