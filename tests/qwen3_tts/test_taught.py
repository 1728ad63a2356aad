"""What Qwen3-TTS draws is what it is taught; trained by upstream's loss, it is told so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.qwen3_tts.upstream_loss import UPSTREAM, Faults, UpstreamNetwork
from tts_train.checking import check_training
from tts_train.families.token_lm import TinyOptions
from tts_train_qwen3_tts.layout import CODEBOOKS, CODES, LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.stage import Qwen3TTSData, Qwen3TTSModule

SMALL = TinyOptions(hidden=32, layers=1, heads=2, kv_heads=1, mlp=48)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path, chance = tmp_path_factory.mktemp("rows") / "rows.parquet", np.random.default_rng(0)
    made = []
    for frames in (3, 7, 5):
        text = QWEN3_TTS.prompt.encode_text(QWEN3_TTS.load_tokenizer("tiny"), "Good evening")
        audio = LAYOUT.codes_to_tokens(list(chance.integers(0, CODES, (CODEBOOKS, frames))))
        made.append(QWEN3_TTS.prompt.speech_row(text, audio).input_ids.tolist())
    pq.write_table(pa.table({"input_ids": made}), path)
    return str(path)


class TaughtByUpstream(Qwen3TTSModule):
    """Computes its loss as upstream does, in the way of most patched copies."""

    faults = UPSTREAM["upstream_head_projected"]

    def build(self):
        super().build()
        self.network.__class__ = UpstreamNetwork
        self.network.faults = self.faults


RIGHT = Faults(late=False, next_book=False, own_state=False, raw_text=False)


def check(rows, tmp_path, faults):
    module = TaughtByUpstream("tiny", tiny=SMALL, frozen=())
    module.faults = faults
    check_training(QWEN3_TTS.name, module, Qwen3TTSData(rows, max_tokens=64, val_share=0), runs_in=tmp_path)


def test_what_is_drawn_is_what_is_taught(rows, tmp_path):
    check(rows, tmp_path, RIGHT)


@pytest.mark.parametrize(
    "faults",
    [*(replace(RIGHT, **{fault: True}) for fault in ("late", "next_book", "own_state")), TaughtByUpstream.faults],
    ids=["late", "next_book", "own_state", "upstream"],
)
def test_upstreams_loss_and_each_of_its_faults_are_told(rows, tmp_path, faults):
    """Raw text cannot be computed here: the tiny text table is narrower than the talker, as in the 0.6B."""
    with pytest.raises(AssertionError, match="training and generation do not compute the same distribution"):
        check(rows, tmp_path, faults)
