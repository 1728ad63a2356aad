"""Qwen3-TTS as the family sees it: its layout, prompts and codec, and the sizes of its networks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tts_train.contract import ConfigError
from tts_train.families.token_lm import Sampling, TokenLM, byte_tokenizer, checked_tokenizer
from tts_train_qwen3_tts.codec.sizes import RELEASED
from tts_train_qwen3_tts.layout import BOS, CODEBOOKS, CODEC_ROWS, CODES, EOS, LAYOUT, TEXT_ROWS
from tts_train_qwen3_tts.networks.sizes import released_config, tiny_config
from tts_train_qwen3_tts.prompt import LANGUAGES, Qwen3TTSPrompt

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


BASE = "Qwen/Qwen3-TTS-12Hz-1.7B-Base"
SPECIAL = {
    "<|im_start|>": LAYOUT.begin_of_text,
    "<|im_end|>": LAYOUT.end_of_turn,
    "<tts_pad>": LAYOUT.tts_pad,
    "<tts_text_bos>": LAYOUT.tts_bos,
    "<tts_text_eod>": LAYOUT.tts_eos,
}


@cache
def _tiny_tokenizer() -> PreTrainedTokenizerBase:
    names = {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<tts_pad>"}
    return byte_tokenizer(SPECIAL, size=TEXT_ROWS, **names)


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Return Qwen3-TTS's tokenizer from a folder or the hub, or the one of bytes, ``tiny``."""
    return _tiny_tokenizer() if source == "tiny" else checked_tokenizer(source, SPECIAL, model="Qwen3-TTS")


def prompt_of(config: PretrainedConfig) -> Qwen3TTSPrompt:
    """Return the format of a network: which speakers and languages its configuration names."""
    given: Any = config
    talker = given.talker
    speakers = {name.lower(): LAYOUT.item(table_row(row)) for name, row in (talker.get("spk_id") or {}).items()}
    speakers |= {name: LAYOUT.voice_base + place for place, name in enumerate(given.voices)}
    dialects = {name.lower(): tag for name, tag in (talker.get("spk_is_dialect") or {}).items() if tag}
    languages = talker.get("codec_language_id") or LANGUAGES
    return Qwen3TTSPrompt(languages=languages, speakers=speakers, dialects=dialects)


def table_row(given: object) -> int:
    """Return a row of the codec's table, which a file may give in a list of one.

    Raises:
        ConfigError: if the table has no such row.
    """
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, int) or not 0 <= given < CODEC_ROWS:
        raise ConfigError(f"talker_config.spk_id of config.json must name rows below {CODEC_ROWS}, not {given!r}.")
    return given


QWEN3_TTS = TokenLM(
    name="Qwen3-TTS",
    backend="qwen3_tts",
    where="tts_train_qwen3_tts.model:QWEN3_TTS",
    kind="qwen3_tts/lm",
    layout=LAYOUT,
    prompt=Qwen3TTSPrompt(),
    prompt_of=prompt_of,
    codec_loader="tts_train_qwen3_tts.codec.load:load_codec",
    codec=RELEASED,
    load_tokenizer=load_tokenizer,
    base=BASE,
    tiny_config=tiny_config,
    released_config=released_config,
    model_types=("qwen3_tts",),
    base_values={
        "hertz": 12,
        "books": CODEBOOKS,
        "codes": CODES,
        "text_rows": TEXT_ROWS,
        "begin_row": CODES + BOS,
        "end_row": CODES + EOS,
        "tts_pad_token_id": LAYOUT.tts_pad,
        "tts_bos_token_id": LAYOUT.tts_bos,
        "tts_eos_token_id": LAYOUT.tts_eos,
    },
    kept_entries=("voices",),
    model_class="tts_train_qwen3_tts.networks.talker:Qwen3TTSLM",
    sampling=Sampling(temperature=0.9, top_p=1.0, top_k=50, repetition_penalty=1.05),
    built_in=("tiny",),
    drops_repeats=False,
    prompt_tokens=30,
    utterance_tokens=90,
)
"""What the family's classes are given."""
