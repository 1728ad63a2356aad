"""Finch, a second member of the family: a Qwen2 with one codebook, 50 codes a second, and ids unlike Orpheus's."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config

from tts_train.errors import DataError
from tts_train.families.token_lm.data.data import TokenData
from tts_train.families.token_lm.layout import TokenLayout
from tts_train.families.token_lm.model import TokenLM
from tts_train.families.token_lm.module import TokenModule
from tts_train.families.token_lm.preference.data import PairData
from tts_train.families.token_lm.preference.module import PreferenceModule
from tts_train.families.token_lm.prompts import IdRow
from tts_train.families.token_lm.reinforce.data import PromptData
from tts_train.families.token_lm.reinforce.module import ReinforceModule

BEGIN, PAD_TEXT, TURN = 256, 257, 258
START, END, PAD = 260, 261, 262
LAYOUT = TokenLayout(
    vocab_size=400,
    text_tokens=256,
    added_base=260,
    audio_base=272,
    codebook_size=128,
    sample_rate=16000,
    frame_samples=320,
    start_of_speech=START,
    end_of_speech=END,
    begin_of_text=BEGIN,
    pad=PAD,
    text_pad=PAD_TEXT,
    end_of_turn=TURN,
    end_of_row=END,
)


class FinchPrompt:
    """Text, start of speech, codes, end of speech; no turns."""

    def encode_text(self, tokenizer, text, speaker=None):
        ids = tokenizer.encode(f"{speaker}: {text}" if speaker else text, add_special_tokens=False)
        if any(index >= LAYOUT.text_tokens for index in ids):
            raise DataError(f"The text {text!r} names control tokens.")
        return [BEGIN, *ids]

    def inference_prompt(self, text_ids):
        return np.append(np.asarray(text_ids, dtype=np.int64), START)

    def speech_row(self, text_ids, audio_ids):
        prompt = self.inference_prompt(text_ids)
        return IdRow(np.concatenate([prompt, audio_ids, [END]]), len(prompt))

    def zero_shot_prompt(self, references: Iterable, text_ids):
        said = [self.speech_row(text, audio).input_ids for text, audio in references]
        return np.concatenate([*said, self.inference_prompt(text_ids)])

    def text_row(self, question_ids, answer_ids, system_ids=None):
        question = np.concatenate([np.asarray(system_ids or [], dtype=np.int64), question_ids])
        return IdRow(np.concatenate([question, answer_ids, [TURN]]).astype(np.int64), len(question))


class LoudnessCodec:
    """Codes how loud each frame is; what it decodes is a hum of that loudness."""

    sample_rate = LAYOUT.sample_rate
    frame_samples = LAYOUT.frame_samples
    fingerprint = "loudness-1"
    context_frames = 0

    def encode(self, clips):
        made = []
        for clip in clips:
            frames = torch.nn.functional.pad(clip, (0, -len(clip) % self.frame_samples)).view(-1, self.frame_samples)
            decibels = 20 * frames.square().mean(1).sqrt().clamp(min=1e-6).log10()
            codes = ((decibels + 120) / 120 * (LAYOUT.codebook_size - 1)).round().long()
            made.append((codes.clamp(0, LAYOUT.codebook_size - 1).numpy(),))
        return made

    def decode(self, levels, *, seed=0, first_frame=0):
        decibels = torch.as_tensor(np.asarray(levels[0])) / (LAYOUT.codebook_size - 1) * 120 - 120
        samples = torch.arange(len(decibels) * self.frame_samples) + first_frame * self.frame_samples
        hum = torch.sin(samples * (2 * torch.pi * 200 / self.sample_rate)) * 2**0.5
        return (hum * (10 ** (decibels / 20)).repeat_interleave(self.frame_samples)).float()


def load_codec(source, *, device="cpu"):
    return LoudnessCodec()


@cache
def load_tokenizer(source):
    """A token a byte."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    special = {"<begin>": BEGIN, "<pad>": PAD_TEXT, "<turn>": TURN}
    others = {f"<extra_{index}>": index for index in range(259, LAYOUT.vocab_size)}
    backend = Tokenizer(models.BPE(vocab=vocabulary | special | others, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    backend.add_tokens([AddedToken(name, normalized=False) for name in others])
    names = {"bos_token": "<begin>", "eos_token": "<turn>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)


def tiny_config(tiny):
    return Qwen2Config(
        vocab_size=LAYOUT.vocab_size,
        hidden_size=tiny.hidden,
        intermediate_size=tiny.mlp,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=BEGIN,
        eos_token_id=TURN,
        pad_token_id=PAD_TEXT,
    )


FINCH = TokenLM(
    name="Finch",
    backend="finch",
    where="tests.families.finch:FINCH",
    kind="finch/lm",
    layout=LAYOUT,
    prompt=FinchPrompt(),
    codec_loader=load_codec,
    codec="loudness",
    load_tokenizer=load_tokenizer,
    base="nobody/finch",
    tiny_config=tiny_config,
    model_types=("qwen2",),
    utterance_tokens=60,
)


class FinchModule(TokenModule):
    """Train Finch."""

    token_lm = FINCH


class FinchData(TokenData):
    """Batches for Finch."""

    token_lm = FINCH


class FinchPreference(PreferenceModule, FinchModule):
    """Train Finch on pairs of takes."""


class FinchPairs(PairData):
    """Pairs of takes of Finch."""

    token_lm = FINCH


class FinchReinforce(ReinforceModule, FinchModule):
    """Train Finch on takes that it draws."""


class FinchPrompts(PromptData):
    """Texts for Finch."""

    token_lm = FINCH


def write_rows(path: Path, count: int = 12) -> Path:
    """Write utterances that can be learnt: each text is said by one row of codes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, chance = [], np.random.default_rng(0)
    for number in range(count):
        text = FINCH.prompt.encode_text(load_tokenizer("tiny"), f"Line {number}.")
        codes = np.cumsum(chance.integers(1, 4, 20 + number)) % LAYOUT.codebook_size
        rows.append(FINCH.prompt.speech_row(text, LAYOUT.codes_to_tokens([codes])).input_ids.tolist())
    pq.write_table(pa.table({"id": [f"u{number:02}" for number in range(count)], "input_ids": rows}), path)
    return path
