"""A training step of Qwen3-TTS against the way of its own script, stated again plainly; time, then memory.

Times alternate between the sides in one process, on the same weights; memory is measured in a process for each side.
An optimiser step is of 8 rows: two accumulated four times, as upstream does, or eight at once; ours are packed.
``ours 8, table trained`` trains the text table too, as upstream does; by default it stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from common import MIB, child, machine, peak_mib, save, table, wait_for_quiet

SIDES = ("naive 2 x 4", "naive 8", "ours 8", "ours 2 x 4", "ours 8, table trained")
ROWS, GATHERED = 8, 4
SHAPES = {
    # Width, layers, layers of the code predictor. The vocabularies are the released ones.
    "half the widths of the 0.6B, 2 + 1 layers": (512, 2, 1),
    "the widths of the 0.6B, 2 + 1 layers": (1024, 2, 1),
    "the widths of the 0.6B, 6 + 1 layers": (1024, 6, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="qwen3-tts", help="name of the files in results/")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=tuple(SHAPES)[:1])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wait", type=float, default=0.0, help="most minutes to wait for a quiet machine")
    parser.add_argument("--task", help="what a child process does")
    given = parser.parse_args()
    if given.task:
        task = json.loads(given.task)
        print(json.dumps({"time": _time, "memory": _memory}[task["what"]](task)))
        return
    results: dict[str, Any] = {"machine": machine(), "threads": given.threads, "shapes": {}}
    for shape in given.shapes:
        wait_for_quiet(given.wait)
        task = {"shape": shape, "rounds": given.rounds, "sides": given.sides}
        timed = child(__file__, {"what": "time", **task}, threads=given.threads)
        memory = {
            side: child(__file__, {"what": "memory", "side": side, **task}, threads=given.threads)
            for side in given.sides
        }
        results["shapes"][shape] = {"time": timed, "memory": memory}
        # After each shape, as a long run may be cut off.
        save(given.name, results, _report(results))
    print(_report(results))


def _time(task: dict[str, Any]) -> dict[str, Any]:
    """Alternate the sides; return each one's seconds, by the clock and of the processor, and the tokens of a step."""
    losses = _check()
    sides = [Side(side, task["shape"]) for side in task["sides"]]
    for side in sides[1:]:
        side.lm.load_state_dict(sides[0].lm.state_dict())
    seen: dict[str, list[list[float]]] = {side.name: [] for side in sides}
    loads = []
    for number in range(task["rounds"] + 1):
        loads.append(round(os.getloadavg()[0], 2))
        for side in sides:
            marks = [(time.perf_counter(), time.process_time())]
            for part in (side.batches, side.update):
                part()
                marks.append((time.perf_counter(), time.process_time()))
            # The first round makes the optimisers' states.
            if number:
                seen[side.name].append([marks[i + 1][j] - marks[i][j] for i in (0, 1) for j in (0, 1)])
    names = ("batch_wall", "batch_cpu", "update_wall", "update_cpu")
    figures = {
        side: {name: [round(each[place], 3) for each in rounds] for place, name in enumerate(names)}
        for side, rounds in seen.items()
    }
    return {"sides": figures, "loads": loads, "tokens": sides[0].tokens, "weights": sides[0].weights, "losses": losses}


def _memory(task: dict[str, Any]) -> dict[str, Any]:
    """Return the peak size in MiB of a process that makes two optimiser steps, and how far they raise it."""
    import torch  # noqa: F401 - libraries count for neither side

    import tts_train_qwen3_tts.stage  # noqa: F401

    before = _resident_mib()
    side = Side(task["side"], task["shape"])
    for _ in range(2):
        side.batches()
        side.update()
    return {"peak_mib": peak_mib(), "grown_mib": round(peak_mib() - before)}


@dataclass
class _Rows:
    documents: list[Any]
    positions: int


def _rows(layout: Any, text_rows: int, seed: int = 0) -> _Rows:
    """Return rows as real speech has them: 10 to 60 text tokens, 25 to 190 frames (2 to 15 s), log-normal around 75."""
    import numpy as np

    from tts_train.families.token_lm.data.batch import Document
    from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

    chance = np.random.default_rng(seed)
    form = Qwen3TTSPrompt(layout)
    documents, positions = [], 0
    for frames in np.clip(chance.lognormal(np.log(75), 0.5, ROWS), 25, 190).astype(int):
        body = chance.integers(0, text_rows, int(np.clip(frames / 3.2, 10, 60)))
        role = (layout.begin_of_text, 0, 1)
        text = form.positions(body.tolist(), role=role, speaker=layout.voice_base)
        books = layout.audio_base + layout.codebook_size * np.arange(layout.slots)
        audio = (chance.integers(0, layout.codes, (frames, layout.slots)) + books).reshape(-1)
        row = form.speech_row(text, audio)
        documents.append(Document("", row.input_ids, row.prompt, frames * 0.08))
        positions += len(layout.starts(row.input_ids))
    return _Rows(documents, positions)


class Side:
    """One way of training, with a network and an optimiser of its own."""

    def __init__(self, name: str, shape: str) -> None:
        import torch

        from tts_train.families.token_lm.network.start import ATTENTION

        torch.manual_seed(0)
        self.name = name
        self.lm = _network(shape)
        self.ours = name.startswith("ours")
        self.lm.set_attn_implementation(ATTENTION if self.ours else "sdpa")
        if self.ours and "table" not in name:
            self.lm.model.text_embedding.requires_grad_(False)
        trained = [weight for weight in self.lm.parameters() if weight.requires_grad]
        self._clipped = trained
        self.optimizer = self._optimizer(trained)
        layout = self.lm.layout
        rows = _rows(layout, 100_000 if layout.text_rows > 100_000 else 300)
        self.tokens, self.weights = rows.positions, sum(weight.numel() for weight in self.lm.parameters())
        self.batches: Callable[[], None] = self._ours(rows) if self.ours else self._naive(rows)

    def _optimizer(self, trained: list[Any]) -> Any:
        import torch

        # Plain AdamW on a CPU goes tensor by tensor, as in upstream's script; ours is what a run of this tool builds.
        return torch.optim.AdamW(trained, lr=2e-5, weight_decay=0.01, fused=True if self.ours else None)

    def update(self) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(self._clipped, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _naive(self, rows: _Rows) -> Callable[[], None]:
        from qwen3_tts_naive import PaddedRows, naive_loss

        def batches() -> None:
            for few in self._gathered(rows):
                (naive_loss(self.lm, PaddedRows(few, self.lm.layout)) * len(few) / ROWS).backward()

        return batches

    def _ours(self, rows: _Rows) -> Callable[[], None]:
        from tts_train.families.token_lm.frames.batch import pack_frames
        from tts_train.families.token_lm.frames.network import FrameNetwork

        network = FrameNetwork(self.lm, self.lm.layout).train()

        def batches() -> None:
            for few in self._gathered(rows):
                (network(pack_frames(few, self.lm.layout)).loss * len(few) / ROWS).backward()

        return batches

    def _gathered(self, rows: _Rows) -> list[list[Any]]:
        size = ROWS // GATHERED if "x" in self.name else ROWS
        return [rows.documents[first : first + size] for first in range(0, ROWS, size)]


def _network(shape: str) -> Any:
    from tts_train.families.token_lm.network.start import empty_network
    from tts_train_qwen3_tts.model import released_config
    from tts_train_qwen3_tts.networks.talker import Qwen3TTSLM

    config = released_config("Qwen/Qwen3-TTS-12Hz-0.6B-Base")
    assert config is not None
    config.speaker_encoder_config = None
    width, layers, depth = SHAPES.get(shape, (64, 2, 1))
    # As far as the width is divided, so are the heads and the text's width; the vocabularies are the real ones.
    part = 1024 // width
    for section, count in ((config.talker_config, layers), (config.talker_config["code_predictor_config"], depth)):
        section |= {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": count}
        section |= {"num_attention_heads": 16 // part, "num_key_value_heads": max(8 // part, 1)}
    config.talker_config["text_hidden_size"] = 2 * width
    import torch

    lm = empty_network(config, dtype=torch.float32, network_class=Qwen3TTSLM)
    for name, weight in lm.named_parameters():
        torch.nn.init.ones_(weight) if "norm" in name else torch.nn.init.normal_(weight, std=0.02)
    torch.nn.init.normal_(lm.voices)
    return lm


def _check() -> list[float]:
    """Refuse to compare two things: both sides have one loss, and one gradient."""
    import torch
    from qwen3_tts_naive import PaddedRows, naive_loss

    ours, naive = Side("ours 8, table trained", "small"), Side("naive 8", "small")
    naive.lm.load_state_dict(ours.lm.state_dict())
    rows = _rows(ours.lm.layout, 100_000).documents
    found = naive_loss(naive.lm, PaddedRows(rows, naive.lm.layout))
    found.backward()
    ours.batches()
    from tts_train.families.token_lm.frames.batch import pack_frames
    from tts_train.families.token_lm.frames.network import FrameNetwork

    with torch.no_grad():
        loss = FrameNetwork(ours.lm, ours.lm.layout)(pack_frames(rows, ours.lm.layout)).loss
    for (name, one), other in zip(ours.lm.named_parameters(), naive.lm.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        if not torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-6):
            raise SystemExit(f"The gradients of {name} differ by {float((one.grad - other.grad).abs().max())}.")
    if abs(loss.item() - found.item()) > 1e-5 * found.item():
        raise SystemExit(f"The losses differ: {loss.item()} and {found.item()}.")
    return [loss.item(), found.item()]


def _report(results: dict[str, Any]) -> str:
    about = results["machine"]
    lines = [
        "# A training step of Qwen3-TTS",
        "",
        f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, float32, {results['threads']} threads, "
        f"revision {about['revision']}, {about['started']}. `{about['command']}`",
        "",
        "`naive` is upstream's way stated again plainly with the right loss (benchmarks/qwen3_tts_naive.py). A step is "
        f"{ROWS} rows forward and backward, clipping and AdamW; seconds are medians, tokens are real positions.",
    ]
    for shape, found in results["shapes"].items():
        lines += ["", *_shape(shape, found)]
    return "\n".join(lines)


def _shape(shape: str, found: dict[str, Any]) -> list[str]:
    timed, tokens = found["time"], found["time"]["tokens"]
    rows, speed, memory = [], {}, {}
    sides = list(timed["sides"])
    for side in sides:
        seconds = {name: median(values) for name, values in timed["sides"][side].items()}
        speed[side] = [tokens / (seconds[f"batch_{kind}"] + seconds[f"update_{kind}"]) for kind in ("wall", "cpu")]
        memory[side] = found["memory"][side]["peak_mib"]
        rows.append(
            [
                side,
                *(round(speed) for speed in speed[side]),
                *(round(seconds[name], 2) for name in ("batch_wall", "batch_cpu", "update_wall", "update_cpu")),
                round(memory[side]),
            ]
        )
    heads = ("side", "tokens/s", "tokens/CPU s", "batch s", "batch CPU s", "update s", "update CPU s", "peak MiB")
    naive = [side for side in sides if side.startswith("naive")]
    best, least = max(naive, key=lambda side: speed[side][1]), min(naive, key=lambda side: memory[side])
    compared = [
        f"`{side}` is {speed[side][0] / speed[best][0]:.2f} times as fast as `{best}` by the clock, "
        f"{speed[side][1] / speed[best][1]:.2f} in CPU time (goal 2), with {memory[side] / memory[least]:.2f} of "
        f"the peak memory of `{least}` (goal 0.5)."
        for side in sides
        if side.startswith("ours")
    ]
    return [
        f"## {shape}: {timed['weights'] / 1e6:.0f} million weights, {tokens} tokens, load average "
        f"{min(timed['loads'])} to {max(timed['loads'])}",
        "",
        table(heads, rows),
        "",
        " ".join(compared) + f" Losses of both ways: {timed['losses'][0]:.6f}, {timed['losses'][1]:.6f}.",
    ]


def _resident_mib() -> float:
    from pathlib import Path

    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


if __name__ == "__main__":
    main()
