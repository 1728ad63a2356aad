"""CSMs of the real layout and vocabulary with small random weights, and rows for them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import CsmConfig, CsmForConditionalGeneration
from tts_train_csm.layout import AUDIO_END, BEGIN_OF_TEXT, CODEBOOKS, END_OF_TEXT, LAYOUT
from tts_train_csm.network import CsmLM

from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.families.token_lm.network.start import ATTENTION


def small_config():
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu"}
    depth = {**sizes, "backbone_hidden_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    codec = {
        "model_type": "mimi",
        "hidden_size": 16,
        "num_filters": 2,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "codebook_size": 2048,
        "num_quantizers": CODEBOOKS,
        "upsample_groups": 16,
    }
    return CsmConfig(
        **sizes,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        depth_decoder_config=depth,
        codec_config=codec,
    )


def pair(seed=0):
    """transformers' own network, and the family's around the same weights."""
    torch.manual_seed(seed)
    theirs = CsmForConditionalGeneration._from_config(small_config(), attn_implementation="sdpa").eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    theirs.tie_weights()
    ours = CsmLM._from_config(small_config(), attn_implementation=ATTENTION)
    named = {name: value for name, value in theirs.state_dict().items() if not name.startswith("codec_model.")}
    ours.load_state_dict(named)
    return theirs, FrameNetwork(ours, LAYOUT).eval()


def documents(sizes=(3, 7, 1, 5)):
    made, chance = [], np.random.default_rng(0)
    for number, frames in enumerate(sizes):
        text = chance.integers(0, 1000, 2 + number)
        audio = LAYOUT.codes_to_tokens([chance.integers(0, 2048, frames) for _ in range(CODEBOOKS)])
        ids = np.concatenate([[BEGIN_OF_TEXT], text, [END_OF_TEXT], audio, [AUDIO_END]])
        made.append(Document(str(number), ids.astype(np.int64), seconds=frames * 0.08))
    return made


def write_rows(path):
    """The documents as rows that were tokenised elsewhere."""
    pq.write_table(pa.table({"input_ids": [document.input_ids.tolist() for document in documents()]}), path)
    return path
