"""A small Qwen3-TTS that learns the sample voice's sentences by heart, and how long it then speaks for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tests.qwen3_tts.upstream_loss import UPSTREAM, UpstreamNetwork
from tts_train.demo.journey import VOICE
from tts_train.families.token_lm import TinyOptions
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.decoding.generate import generate
from tts_train.families.token_lm.frames.batch import pack_frames
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.network.start import load_base
from tts_train.jobs.run import perform_words
from tts_train_qwen3_tts.layout import CODEBOOKS
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.stage import Qwen3TTSData

RIGHT = "ours"
LOSSES = (RIGHT, "upstream_head_projected", "upstream_head", "upstream_before_022e286_projected")
"""Ours, and upstream's by the names of the reference figures."""
SIZE = TinyOptions(hidden=192, layers=3, mlp=512)
GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0)
"""Most likely codes: a network that knows its sentences by heart, and no others, is lost after any other code."""
LEARN, TUNE = 0.004, 0.0001
"""Learning rates: from random weights, and from a network that speaks already."""


@dataclass(frozen=True)
class Said:
    """How a network speaks sentences that it was trained on."""

    ratios: Sequence[float]
    """Frames spoken over frames of the recording, sentence by sentence."""
    ended: int
    """Sentences that ended by themselves."""
    cross_entropy: float
    """Of the first codes at the right places, nats."""
    accuracy: float
    """Share of first codes that are right when all before them are given."""
    others: float
    """The same share of the other fifteen codes."""

    def figures(self) -> dict[str, float]:
        """Return what a table shows: the median ratio and its spread, and the rest."""
        low, high = np.quantile(self.ratios, [0.1, 0.9])
        about = {"ratio": median(self.ratios), "p10": low, "p90": high, "cross_entropy": self.cross_entropy}
        about |= {"accuracy": self.accuracy, "other_codes": self.others, "ended": self.ended / len(self.ratios)}
        return {name: round(float(value), 3) for name, value in about.items()}


@dataclass(frozen=True)
class Sentences:
    """What is learned: rows of a prepared set, and how many of them a step takes."""

    data: Qwen3TTSData
    count: int
    batch: int = 4

    @property
    def rows(self) -> list[Document]:
        """The rows."""
        rows: Any = self.data.train_set
        return [rows[row] for row in range(self.count)]


def prepared(folder: Path) -> Qwen3TTSData:
    """Return the sample voice's sentences, all of them for training, prepared with the small codec."""
    words = ["--backend", "qwen3_tts", "--corpus", str(VOICE), "--out", str(folder)]
    perform_words("prepare", [*words, "--codec", "tiny", "--tokenizer", "tiny"])
    data = Qwen3TTSData(str(folder), val_share=0.0)
    data.setup("fit")
    return data


def fresh(data: Qwen3TTSData, size: TinyOptions = SIZE) -> Any:
    """Return a network with seeded weights that knows the voices; its text table is as wide as the talker.

    So upstream's loss can be computed with all of its faults.
    """

    def wide(tiny: TinyOptions) -> Any:
        config = QWEN3_TTS.tiny_config(tiny)
        config.talker_config["text_hidden_size"] = tiny.hidden
        return config

    lm: Any = load_base(replace(QWEN3_TTS, tiny_config=wide), "tiny", tiny=size)
    known = data.voices()
    assert known is not None
    names, vectors, _ = known
    # The small speaker encoder has a width of its own.
    lm.take_voices(names, vectors.repeat(1, size.hidden // vectors.shape[1]))
    # As a run has it by default.
    lm.model.text_embedding.requires_grad_(False)
    return lm


def network(lm: Any, loss: str) -> FrameNetwork:
    """Return the network around ``lm`` whose forward is a loss of :data:`LOSSES`."""
    layout = QWEN3_TTS.layout
    return FrameNetwork(lm, layout) if loss == RIGHT else UpstreamNetwork(lm, layout, UPSTREAM[loss])


def train(lm: Any, sentences: Sentences, loss: str, *, rate: float, falls: int = 0) -> Iterator[int]:
    """Train, and yield the number of epochs that are done after each.

    Args:
        lm: What is trained.
        sentences: On what.
        loss: One of :data:`LOSSES`.
        rate: Learning rate of AdamW.
        falls: Epochs after which it has fallen to 0, from where it has risen to in ten steps; none leaves it as it is.
    """
    net = network(lm, loss).train()
    weights = [weight for weight in lm.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0, fused=True)
    chance, rows, step, epoch = torch.Generator().manual_seed(0), sentences.rows, 0, 0
    steps = falls * -(-len(rows) // sentences.batch)
    while True:
        for few in torch.randperm(len(rows), generator=chance).split(sentences.batch):
            if falls:
                optimizer.param_groups[0]["lr"] = rate * min(1, step / 10) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
            net(pack_frames([rows[row] for row in few], QWEN3_TTS.layout)).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        epoch += 1
        yield epoch


def said(lm: Any, sentences: Sentences) -> Said:
    """Have the rows' texts spoken, at most three times as long as the recordings, and measure."""
    lm.eval()
    layout, rows = QWEN3_TTS.layout, sentences.rows
    with torch.no_grad():
        output = FrameNetwork(lm, layout).eval()(pack_frames(rows, layout))
    head, depth = output.parts
    prompts = [row.input_ids[: np.flatnonzero(layout.slot_of(row.input_ids) >= 0)[0]] for row in rows]
    frames = [len(layout.frames_in(row.input_ids)[1]) for row in rows]
    limits = [3 * CODEBOOKS * count for count in frames]
    spoken = generate(layout, lm, prompts, seeds=range(len(rows)), max_new_tokens=limits, sampling=GREEDY)
    return Said(
        ratios=[one.content.frames / count for one, count in zip(spoken, frames, strict=True)],
        ended=sum(one.content.ended for one in spoken),
        cross_entropy=float(output.loss_sum) / output.count,
        accuracy=_share(head),
        others=_share(depth),
    )


def _share(head: Any) -> float:
    return float((head.predictions == head.targets).float().mean())


def learned(sentences: Sentences, *, epochs: int) -> Any:
    """Return a network that has learned the sentences with the right loss."""
    lm = fresh(sentences.data)
    next(done for done in train(lm, sentences, RIGHT, rate=LEARN, falls=epochs) if done == epochs)
    return lm


def tuned(lm: Any, sentences: Sentences, loss: str, epochs: Sequence[int]) -> dict[int, Said]:
    """Train a network that speaks on with a loss, and return how it speaks after some of the epochs.

    Its weights are put back.
    """
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    rows = {}
    for done in train(lm, sentences, loss, rate=TUNE):
        if done in epochs:
            rows[done] = said(lm, sentences)
            lm.train()
        if done >= max(epochs):
            break
    lm.load_state_dict(before)
    return rows
