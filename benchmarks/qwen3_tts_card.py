"""Steps and speech of Qwen3-TTS at its released sizes on a CUDA card, with weights of chance: is it fast, does it fit.

    python benchmarks/qwen3_tts_card.py                 # three runs of 7 steps over 8,192 positions, about a minute
    python benchmarks/qwen3_tts_card.py --positions 2048

A bare loop over the production network and batches: no trainer, no data on disk. It prints for each run positions/s, a
step's seconds (the median of the last four), the peak of the tensors, and frames/s of speaking, of which 12.5 keep up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.decoding.generate import generate
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, merge, trainable_parameters
from tts_train.families.token_lm.network.build import joined
from tts_train.families.token_lm.network.start import empty_network, use_attention
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS, released_config
from tts_train_qwen3_tts.networks.talker import Qwen3TTSLM

RUNS = (("0.6B", "lora"), ("1.7B", "lora"), ("1.7B", "full"))
STEPS, SPOKEN = 7, 40
"""Steps of a run, and frames of an utterance that is spoken."""


def main() -> None:
    """Run all sizes and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=8192, help="positions of a batch")
    positions = parser.parse_args().positions
    print(torch.cuda.get_device_name())
    for size, method in RUNS:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        network = build(size, method)
        seconds = train(network, method, positions)
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{size} {method}: {positions / seconds:.0f} positions/s, {seconds:.3f} s a step, {peak:.2f} GiB",
            flush=True,
        )
        if method == "lora":
            speak(network)
        del network


def build(size: str, method: str) -> FrameNetwork:
    """Make a network on the card in bfloat16, all layers recomputed, adapters of rank 16 for ``lora``."""
    config = released_config(f"Qwen/Qwen3-TTS-12Hz-{size}-Base")
    lm: Any = empty_network(config, dtype=torch.bfloat16, device="cuda", network_class=Qwen3TTSLM)
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            weight.fill_(1.0) if weight.ndim == 1 and name.endswith("weight") else weight.normal_(0, 0.02)
    lm.voices = lm.voices.cuda()
    for stack in (lm.model, lm.depth):
        stack.rotary_emb.cuda()
    network = FrameNetwork(lm, LAYOUT)
    if method == "lora":
        apply_method(network, "lora", LoraOptions(rank=16))
    lm.model.text_embedding.requires_grad_(False)
    lm.speaker_encoder.requires_grad_(False)
    network.use_fused_kernels(layers=False)
    network.train()
    network.enable_checkpointing(1.0)
    return network


def train(network: FrameNetwork, method: str, positions: int) -> float:
    """Return the median seconds of a step."""
    weights = list(trainable_parameters(network).values())
    optimizer = torch.optim.AdamW(weights, fused=True) if method == "lora" else torch.optim.SGD(weights)
    draw, times = np.random.default_rng(0), []
    for _ in range(STEPS):
        made: dict[str, Any] = dict(joined(documents(positions, draw), LAYOUT, packed=True))
        batch: Any = {name: value.cuda() if torch.is_tensor(value) else value for name, value in made.items()}
        torch.cuda.synchronize()
        begun = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = network(batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[3:])


def documents(positions: int, draw: np.random.Generator) -> list[Document]:
    """Return utterances of 15 to 50 text rows and 30 to 150 frames, as many as fit."""
    made: list[Document] = []
    used = 0
    while True:
        text, frames = int(draw.integers(15, 50)), int(draw.integers(30, 150))
        body = QWEN3_TTS.prompt.positions(  # type: ignore[attr-defined]
            draw.integers(0, 150_000, text).tolist(), role=[151644, 77091, 198], speaker=LAYOUT.item(3000)
        )
        row = QWEN3_TTS.prompt.speech_row(body, LAYOUT.codes_to_tokens(list(draw.integers(0, 2048, (16, frames)))))
        used += len(LAYOUT.starts(row.input_ids))
        if used > positions:
            return made
        made.append(Document(str(len(made)), row.input_ids))


def speak(network: FrameNetwork) -> None:
    """Print how fast it speaks one utterance, and eight."""
    merge(network)
    lm: Any = network.lm.eval().requires_grad_(False)
    use_attention(lm, "sdpa")
    text = QWEN3_TTS.prompt.positions(list(range(100, 130)), role=[151644, 77091, 198])  # type: ignore[attr-defined]
    prompt = QWEN3_TTS.prompt.inference_prompt(text)
    for rows in (1, 8):
        for _ in range(2):  # the first compiles
            begun = time.perf_counter()
            options: dict[str, Any] = {"max_new_tokens": 16 * SPOKEN, "sampling": QWEN3_TTS.sampling}
            said = generate(LAYOUT, lm, [prompt] * rows, seeds=list(range(rows)), **options)
            frames = sum(one.content.frames for one in said)
            took = time.perf_counter() - begun
        print(f"  {rows} at once: {frames / took:.1f} frames/s", flush=True)


if __name__ == "__main__":
    main()
