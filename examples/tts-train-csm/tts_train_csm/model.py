"""CSM as the family sees it: its layout, prompts and codec, and the sizes of its networks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tts_train.contract import DataError
from tts_train.families.token_lm import IdRow, PromptFormat, Sampling, TokenLM, byte_tokenizer, checked_tokenizer
from tts_train_csm.layout import AUDIO, AUDIO_END, BEGIN_OF_TEXT, CODEBOOKS, END_OF_TEXT, LAYOUT, TEXT_VOCABULARY

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm import Ids, TinyOptions
    from tts_train_csm.network import CsmLMConfig

_SPECIAL = {
    "<|begin_of_text|>": BEGIN_OF_TEXT,
    "<|end_of_text|>": END_OF_TEXT,
    "<|AUDIO|>": AUDIO,
    "<|audio_eos|>": AUDIO_END,
}
CHAT_TEMPLATE = (
    "{%- for m in messages -%}{{- '<|begin_of_text|>[' + m['role'] + ']' -}}{%- for part in m['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{- part['text'] + '<|end_of_text|>' -}}"
    "{%- else -%}{{- '<|AUDIO|><|audio_eos|>' -}}{%- endif -%}{%- endfor -%}{%- endfor -%}"
)
"""What CsmProcessor makes its prompts with: a role is a speaker."""


class CsmPrompt(PromptFormat):
    """``[speaker]text``, and the frames behind it; earlier utterances stand before, each with its frames."""

    def encode_text(self, tokenizer: PreTrainedTokenizerBase, text: str, speaker: str | None = None) -> list[int]:
        """Return the ids of a text with its speaker, 0 where there is none."""
        ids: list[int] = tokenizer.encode(f"[{speaker or 0}]{text}", add_special_tokens=False)
        if any(index >= LAYOUT.text_tokens for index in ids):
            raise DataError(f"The text {text!r} names control tokens. Remove them: they mark turns and sound.")
        return ids

    def inference_prompt(self, text_ids: ArrayLike) -> Ids:
        """Return the ids after which the model speaks."""
        return np.concatenate([[BEGIN_OF_TEXT], np.asarray(text_ids, dtype=np.int64), [END_OF_TEXT]])

    def speech_row(self, text_ids: ArrayLike, audio_ids: ArrayLike) -> IdRow:
        """Return a training row."""
        prompt = self.inference_prompt(text_ids)
        return IdRow(np.concatenate([prompt, np.asarray(audio_ids, dtype=np.int64), [AUDIO_END]]), len(prompt))

    def zero_shot_prompt(self, references: Iterable[tuple[ArrayLike, ArrayLike]], text_ids: ArrayLike) -> Ids:
        """Return a prompt for a voice that is continued: its utterances, then the text to say."""
        said = [self.speech_row(text, audio).input_ids for text, audio in references]
        return np.concatenate([*said, self.inference_prompt(text_ids)])


@cache
def _tiny_tokenizer() -> PreTrainedTokenizerBase:
    names = {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "pad": "<|AUDIO|>"}
    return byte_tokenizer(_SPECIAL, size=TEXT_VOCABULARY, **names)


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Return CSM's tokenizer from a folder or the hub, or the one of bytes, ``tiny``."""
    return _tiny_tokenizer() if source == "tiny" else checked_tokenizer(source, _SPECIAL, model="CSM")


def write_processor(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what makes prompts for transformers."""
    from transformers import CsmProcessor, EncodecFeatureExtractor

    features = EncodecFeatureExtractor(sampling_rate=LAYOUT.sample_rate)
    CsmProcessor(features, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)


def tiny_config(tiny: TinyOptions) -> CsmLMConfig:
    """Return the configuration of a CSM of some size with the real vocabularies."""
    from tts_train_csm.codec import tiny_mimi_config
    from tts_train_csm.network import CsmLMConfig

    shared = {"num_attention_heads": tiny.heads, "num_key_value_heads": tiny.kv_heads, "num_hidden_layers": tiny.layers}
    shared |= {"head_dim": tiny.hidden // tiny.heads, "intermediate_size": tiny.mlp}
    return CsmLMConfig(
        **shared,
        num_codebooks=CODEBOOKS,
        hidden_size=tiny.hidden,
        depth_decoder_config={**shared, "backbone_hidden_size": tiny.hidden, "hidden_size": tiny.hidden // 2},
        codec_config=tiny_mimi_config().to_dict(),
    )


CSM = TokenLM(
    name="CSM",
    backend="csm",
    where="tts_train_csm.model:CSM",
    kind="csm/lm",
    layout=LAYOUT,
    prompt=CsmPrompt(),
    codec_loader="tts_train_csm.codec:load_codec",
    codec="kyutai/mimi",
    load_tokenizer=load_tokenizer,
    base="sesame/csm-1b",
    tiny_config=tiny_config,
    model_types=("csm",),
    base_values={
        "num_codebooks": CODEBOOKS,
        "text_vocab_size": TEXT_VOCABULARY,
        "codebook_eos_token_id": LAYOUT.end_code,
        "depth_decoder_config.num_codebooks": CODEBOOKS,
        "depth_decoder_config.vocab_size": "vocab_size",
        "depth_decoder_config.backbone_hidden_size": "hidden_size",
    },
    model_class="tts_train_csm.network:CsmLM",
    released_class="transformers:CsmForConditionalGeneration",
    where_to_get_it="sesame/csm-1b is gated: accept its licence on its page and log in with 'hf auth login'.",
    sampling=Sampling(temperature=0.9, top_p=1.0, top_k=50, repetition_penalty=1.0),
    write_words=write_processor,
    built_in=("tiny",),
    drops_repeats=False,
    prompt_tokens=24,
    utterance_tokens=120,
)
"""What the family's classes are given."""
