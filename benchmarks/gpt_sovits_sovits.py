"""A step of the stage ``sovits`` on a CPU, ours against a plain re-statement of upstream's way: time and peak memory.

    python benchmarks/gpt_sovits_sovits.py --name 2026-01-31-sovits

Both sides have the same fresh v2 networks, 2 utterances of 200 frames and slices of 20,480 samples, float32 and two
threads; each turn runs in a process of its own, the sides by turns. The re-statement quantises stored features, calls
the critics on recordings and on made samples apart, keeps the graph of both in the generator's step, lets its loss
flow into the critics' weights, activates out of place, makes the mel spectrogram of whole utterances, measures the
norms of all gradients, and steps torch's AdamW as it comes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import child, die_first, machine, peak_mib, save, table, wait_for_quiet

FRAMES, SLICE, BATCH = 200, 32, 2
SIZES: dict[str, tuple[dict[str, Any] | None, int]] = {
    "full": (None, 1),
    "quarter": ({"upsample_initial_channel": 128, "hidden_channels": 48, "inter_channels": 48}, 4),
}
"""The network's sizes and how many times fewer channels its critics have."""
SIDES = ("plain", "ours")


def main() -> None:
    """Run the benchmark, or one turn of one side (``--task``)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default=time.strftime("%Y-%m-%d-sovits"))
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn; the first is not counted")
    parser.add_argument("--wait", type=float, default=0.0, help="minutes to wait for a quiet machine before each turn")
    parser.add_argument("--task")
    options = parser.parse_args()
    if options.task:
        print(json.dumps(_turn(json.loads(options.task))))
        return
    results: list[dict[str, Any]] = []
    for _ in range(options.turns):
        for side in SIDES:
            wait_for_quiet(options.wait)
            task = {"side": side, "size": options.size, "steps": options.steps}
            results.append({"side": side, **child(str(Path(__file__)), task, threads=2)})
    about = {**machine(), "size": options.size, "turns": options.turns}
    text = _report(results, about)
    save(options.name, {"machine": about, "turns": results}, text)
    print(text, file=sys.stderr)


def _report(results: list[dict[str, Any]], about: dict[str, Any]) -> str:
    rows, best = [], {}
    for side in SIDES:
        mine = [each for each in results if each["side"] == side]
        wall, cpu = ([value for each in mine for value in each[kind]] for kind in ("wall", "cpu"))
        best[side] = (min(wall), min(cpu), max(each["peak_mib"] for each in mine))
        figures = (min(wall), statistics.median(wall), min(cpu), statistics.median(cpu))
        loads = f"{min(each['load_before'] for each in mine)} to {max(each['load_before'] for each in mine)}"
        rows.append([side, *(f"{figure:.2f}" for figure in figures), f"{best[side][2]:.0f}", loads])
    heads = ("side", "wall s, least", "median", "CPU s, least", "median", "peak MiB", "load before")
    wall, cpu, memory = (plain / ours for plain, ours in zip(best["plain"], best["ours"], strict=True))
    said = f"Ours takes {wall:.2f}x less wall time, {cpu:.2f}x less processor time and {memory:.2f}x less memory."
    return f"{table(heads, rows)}\n\n{said}\n\n{json.dumps(about)}"


def _turn(task: dict[str, Any]) -> dict[str, Any]:
    """Take steps in this process; return the seconds of each but the first, the last loss and the peak memory."""
    die_first()
    warnings.filterwarnings("ignore")
    marks: list[tuple[float, float]] = []
    loss = (_plain if task["side"] == "plain" else _ours)(task["size"], task["steps"], marks)
    wall, cpu = ([round(after[i] - before[i], 3) for before, after in pairwise(marks)] for i in range(2))
    return {"wall": wall, "cpu": cpu, "loss": loss, "peak_mib": peak_mib()}


def _networks(size: str) -> tuple[Any, Any]:
    import torch

    from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_network

    torch.manual_seed(0)
    sizes, shrink = SIZES[size]
    network = build_network("v2", sizes=sizes)
    torch.nn.init.normal_(network.quantizer.embedding)
    return network.train(), build_critics("v2", shrink=shrink)


def _batch() -> dict[str, Any]:
    import torch

    from tts_train_gpt_sovits.stages.sovits.batch import SovitsUtterance, join

    chance = torch.Generator().manual_seed(0)

    def utterance(i: int) -> SovitsUtterance:
        wave = (torch.randn(FRAMES * 640, generator=chance) * 3000).to(torch.int16)
        codes = torch.randint(1024, (FRAMES // 2,), generator=chance)
        phonemes = torch.randint(1, 300, (60,), generator=chance)
        return SovitsUtterance(id=f"u{i}", text="", language="", codes=codes, phonemes=phonemes, wave=wave)

    return dict(join([utterance(i) for i in range(BATCH)]))


def _ours(size: str, steps: int, marks: list[tuple[float, float]]) -> float:
    """The module of the stage under Lightning's trainer."""
    import lightning
    from torch.utils.data import DataLoader

    from tts_train_gpt_sovits.stages.sovits.module import SovitsModule
    from tts_train_gpt_sovits.starts.sovits_base import LoadedCritics, LoadedGenerator

    class Marks(lightning.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            marks.append((time.perf_counter(), time.process_time()))

    network, critics = _networks(size)
    module = SovitsModule()
    module.network, module.critics = network, critics
    module._start = LoadedGenerator(network=network, version="v2", sizes={}), LoadedCritics(network=critics)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=steps, enable_model_summary=False, callbacks=[Marks()], **quiet
    )
    trainer.fit(module, DataLoader([_batch()] * steps, batch_size=None))
    return float(trainer.callback_metrics["train/loss"])


def _plain(size: str, steps: int, marks: list[tuple[float, float]]) -> float:
    """Upstream's way, restated."""
    import torch
    from torch.nn import functional as F

    from tts_train_gpt_sovits.networks.sovits import adversarial as of
    from tts_train_gpt_sovits.networks.sovits.generator import slice_frames
    from tts_train_gpt_sovits.signal.mel import log_mel, wave_log_mel
    from tts_train_gpt_sovits.stages.sovits.batch import HOP, magnitudes, samples, wave_slices
    from tts_train_gpt_sovits.stages.sovits.optimizer import parameter_groups

    in_place = F.leaky_relu
    F.leaky_relu = lambda x, slope=0.01, **_: in_place(x, slope)
    network, critics = _networks(size)
    settings: dict[str, Any] = {"lr": 1e-4, "betas": (0.8, 0.99), "eps": 1e-9}
    optimizer = torch.optim.AdamW(parameter_groups(network, lr=1e-4), **settings)
    critic_optimizer = torch.optim.AdamW(critics.parameters(), **settings)
    batch = _batch()
    features = torch.randn(BATCH, 768, FRAMES)
    wave, loss = samples(batch), 0.0
    spectrum = magnitudes(wave, batch["frames"])
    text = batch["phonemes"], batch["phoneme_counts"]
    for _ in range(steps):
        made = network(features, spectrum, batch["frames"], *text, frames=SLICE)
        target = slice_frames(log_mel(spectrum), made.starts, SLICE)
        real = wave_slices(wave, made.starts, made.audio.shape[-1] // HOP)
        of_critics = of.critic_loss(critics(real), critics(made.audio.detach()))
        critic_optimizer.zero_grad()
        of_critics.backward()
        _norm(critics)
        critic_optimizer.step()
        of_real, of_made = critics(real), critics(made.audio)
        total = of.adversarial_loss(of_made) + of.feature_loss(of_real, of_made) + made.quantized.commitment
        total = total + of.MEL_WEIGHT * of.mel_loss(target, wave_log_mel(made.audio[:, 0]))
        total = total + of.kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask)
        optimizer.zero_grad()
        total.backward()
        _norm(network)
        optimizer.step()
        loss = float(total.detach())
        marks.append((time.perf_counter(), time.process_time()))
    return loss


def _norm(network: Any) -> float:
    """The norm of all gradients, a tensor at a time, as upstream logs it."""
    grads = (parameter.grad for parameter in network.parameters())
    return float(sum(grad.norm(2).item() ** 2 for grad in grads if grad is not None) ** 0.5)


if __name__ == "__main__":
    main()
