"""Orpheus as the family sees it: its layout, prompts and codec, and the sizes of its Llama."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.families.token_lm import TokenLM
from tts_train_orpheus import layout, prompt
from tts_train_orpheus.card import CARD
from tts_train_orpheus.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaConfig

    from tts_train.families.token_lm import TinyOptions

_CHAT_TEMPLATE = (
    "{{- '<custom_token_3>' + bos_token + messages[-1]['content'] + '<|eot_id|><custom_token_4>' -}}"
    "{%- if add_generation_prompt -%}{{- '<custom_token_5><custom_token_1>' -}}{%- endif -%}"
)
"""The prompt of training, so that chat interfaces make it too."""
_RELEASES = ("canopylabs/", "unsloth/orpheus-3b")


def tiny_config(tiny: TinyOptions) -> LlamaConfig:
    """Return the configuration of an Orpheus of some size; vocabulary and positions are those of the released ones."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=layout.VOCAB_SIZE,
        hidden_size=tiny.hidden,
        intermediate_size=tiny.mlp,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        head_dim=tiny.hidden // tiny.heads,
        rms_norm_eps=1e-5,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
        # The released ones, so that the tiny network meets the same positions and the same scaling.
        rope_parameters={
            "rope_theta": 500000.0,
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        bos_token_id=layout.BEGIN_OF_TEXT,
        eos_token_id=layout.END_OF_TURN,
        pad_token_id=layout.TEXT_PAD,
    )


def released_config(init_from: str) -> LlamaConfig | None:
    """Return the configuration of a released model, all of which have 3.3 billion parameters; None for another name."""
    from tts_train.families.token_lm import TinyOptions

    # Known without their files, since the canopylabs ones are gated and a plan should not need a login.
    if not init_from.startswith(_RELEASES):
        return None
    return tiny_config(TinyOptions(hidden=3072, layers=28, heads=24, kv_heads=8, mlp=8192))


ORPHEUS = TokenLM(
    name="Orpheus",
    backend="orpheus",
    where="tts_train_orpheus.model:ORPHEUS",
    kind="orpheus/lm",
    layout=layout.LAYOUT,
    prompt=prompt,
    codec_loader="tts_train_orpheus.codec.snac:load_codec",
    codec="hubertsiuzdak/snac_24khz",
    load_tokenizer=load_tokenizer,
    base="canopylabs/orpheus-3b-0.1-pretrained",
    tiny_config=tiny_config,
    released_config=released_config,
    optional_rows=("<|audio|>",),
    where_to_get_it=(
        "The canopylabs weights are gated: accept their licence on the model's page and log in with 'hf auth login', "
        "or use a mirror without a gate such as unsloth/orpheus-3b-0.1-pretrained."
    ),
    description_key="orpheus_config",
    softmax_key="orpheus_softmax",
    chat_template=_CHAT_TEMPLATE,
    gguf_pre_tokenizer="llama-bpe",
    card=CARD,
)
"""What the family's classes are given."""
