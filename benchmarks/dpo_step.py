"""A step of DPO against the ordinary step on its chosen takes: time and memory, with adapters and in full.

Measured where this runs, on a card if there is one: times alternate between both steps in one process, memory is that
of a process for each. A step is forward, backward, clipping and the optimiser on the same takes; DPO's has a rejected
take beside each. The reference's log-probabilities are computed once before training; what that costs is told apart.

Planned, without a card: the same two steps of the released 3.3 B model on shapes, as ``tts-train plan`` counts memory
and ``roofline.py`` time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from common import MIB, child, machine, peak_mib, save, table, wait_for_quiet

SHAPE = {"hidden": 192, "layers": 12, "heads": 4, "kv_heads": 2, "mlp": 1024}
"""Most of the products are the output layer's, which in the 3.3 B model has 15 % of them."""
TINY = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 192}
WAYS = ("lora", "lora, all kept", "full")
STEPS = ("plain", "dpo")
BETA, SEED = 0.1, 0
CHUNK = 256
"""Tokens whose logits exist at a time, as in the recipes."""
GOALS = {"time": 2.2, "memory": 1.4}
PLANNED = {
    # Method, tokens of the chosen takes, whether layers are recomputed.
    "LoRA r64, 2,048 tokens": ("lora", 2048, True),
    "LoRA r64, 2,048 tokens, all kept": ("lora", 2048, False),
    "LoRA r64, 8,192 tokens": ("lora", 8192, True),
    "full bf16, 8,192 tokens": ("full", 8192, True),
}
PARTS = ("measured", "planned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="dpo-step", help="name of the files in results/")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--takes", type=int, default=2, help="chosen takes in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wait", type=float, default=0.0, help="most minutes to wait for a quiet machine")
    parser.add_argument("--card", default="H100", help="the card that the planned steps are for")
    parser.add_argument("--tiny", action="store_true", help="a network that says nothing, to try the command")
    parser.add_argument("--task", help="what a child process does")
    given = parser.parse_args()
    if given.task:
        task = json.loads(given.task)
        print(json.dumps({"time": _time, "memory": _memory, "plan": _planned}[task["what"]](task)))
        return
    task = {"takes": given.takes, "rounds": given.rounds, "shape": TINY if given.tiny else SHAPE}
    results: dict[str, Any] = {"machine": machine(), "threads": given.threads, **task, "ways": {}, "planned": {}}
    for way in given.ways if "measured" in given.parts else ():
        wait_for_quiet(given.wait)
        each = {"way": way, **task}
        with _given_back():
            memory = {step: child(__file__, {"what": "memory", "step": step, **each}, threads=1) for step in STEPS}
        timed = child(__file__, {"what": "time", **each}, threads=given.threads)
        results["ways"][way] = {"time": timed, "memory": memory}
        # After each, as a long run may be cut off.
        save(given.name, results, _report(results))
    for name, (method, tokens, recompute) in PLANNED.items() if "planned" in given.parts else ():
        plan = {"what": "plan", "method": method, "tokens": tokens, "recompute": recompute, "card": given.card}
        results["planned"][name] = {step: child(__file__, {"step": step, **plan}, threads=1) for step in STEPS}
        save(given.name, results, _report(results))
    print(_report(results))


@contextmanager
def _given_back() -> Iterator[None]:
    """Let processes that start here give memory back once it is free, so that their peak is of what they hold."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "131072"
    yield
    del os.environ["MALLOC_MMAP_THRESHOLD_"]


# --- the two steps --------------------------------------------------------------------------------------------------


def pairs(count: int) -> list[Any]:
    """Return pairs as real ones are: prompts of 20 to 60 ids, takes of 2 to 6 s, the worse within a third of that."""
    import numpy as np

    from tts_train.families.token_lm.preference.batch import IdPair
    from tts_train_orpheus.layout import LAYOUT

    chance = np.random.default_rng(SEED)

    def take(frames: int) -> Any:
        codes = [chance.integers(0, LAYOUT.codebook_size, frames * rate) for rate in LAYOUT.level_rates]
        return np.append(LAYOUT.codes_to_tokens(codes), LAYOUT.end_of_speech)

    made = []
    for number in range(count):
        frames = int(chance.integers(24, 72))
        prompt = np.append(chance.integers(0, LAYOUT.text_tokens, chance.integers(20, 60)), LAYOUT.start_of_speech)
        worse = max(2, round(frames * chance.uniform(0.67, 1.33)))
        made.append(IdPair(str(number), prompt.astype(np.int64), take(frames), take(worse)))
    return made


class Side:
    """A network with an optimiser, and both kinds of step on it."""

    def __init__(self, task: dict[str, Any]) -> None:
        import torch

        from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, trainable_parameters
        from tts_train.families.token_lm.network.build import build_network, joined
        from tts_train.families.token_lm.network.network import HeadOptions
        from tts_train.families.token_lm.network.start import TinyOptions, load_base
        from tts_train.families.token_lm.preference.batch import pair_batch
        from tts_train_orpheus.layout import LAYOUT
        from tts_train_orpheus.model import ORPHEUS

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        base = load_base(ORPHEUS, "tiny", tiny=TinyOptions(**task["shape"]))
        self.network = build_network(base, LAYOUT, HeadOptions(chunk_tokens=CHUNK))
        if task["way"] != "full":
            apply_method(self.network, "lora", LoraOptions(rank=64, alpha=64.0))
        self.network.to(self.device).train()
        # As the recipes have it, whatever is trained.
        if "kept" not in task["way"]:
            self.network.enable_checkpointing()
        self.trained = list(trainable_parameters(self.network).values())
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5, fused=True)
        made = pairs(task["takes"])
        self.plain = self._there(joined([pair.documents[0] for pair in made], LAYOUT, packed=True))
        self.pairs = self._there(pair_batch(made, LAYOUT))
        self.held = torch.full((2 * len(made),), -1.0, device=self.device)

    def plain_step(self) -> None:
        """Learn the chosen takes."""
        self.network(self.plain).loss.backward()
        self._update()

    def dpo_step(self) -> None:
        """Learn from the pairs; the reference's log-probabilities lie ready."""
        _preference(self.network(self.pairs, tokenwise=True), self.pairs, self.held).backward()
        self._update()

    def reference(self) -> None:
        """Compute the log-probabilities of the pairs once, as before training."""
        import torch

        from tts_train.families.token_lm.preference.batch import sequence_logps

        with torch.no_grad():
            self.held = sequence_logps(self.network(self.pairs, tokenwise=True), self.pairs)

    def does(self, step: str) -> Callable[[], None]:
        return {"plain": self.plain_step, "dpo": self.dpo_step, "reference": self.reference}[step]

    def _update(self) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _there(self, batch: Any) -> Any:
        import torch

        return {name: each.to(self.device) if isinstance(each, torch.Tensor) else each for name, each in batch.items()}


def _preference(output: Any, batch: Any, held: Any) -> Any:
    from tts_train.families.token_lm.preference.batch import sequence_logps
    from tts_train.nn.preference import in_pairs, prefer

    chosen, rejected = in_pairs(sequence_logps(output, batch))
    return prefer(chosen, rejected, beta=BETA, reference=in_pairs(held)).loss


def _time(task: dict[str, Any]) -> dict[str, Any]:
    """Alternate the steps; return each one's seconds, by the clock and of the processor."""
    import torch

    side = Side(task)
    names = ("reference", *STEPS)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    loads = []
    for number in range(task["rounds"] + 1):
        loads.append(round(os.getloadavg()[0], 2))
        for name in names:
            with _measured(side.device) as took:
                side.does(name)()
            # The first round makes the optimiser's states.
            if number:
                seen[name].append(took[0])
    sizes = {"plain": side.plain["input_ids"].numel(), "dpo": side.pairs["input_ids"].numel()}
    return {
        "wall": {name: [round(wall, 3) for wall, _ in each] for name, each in seen.items()},
        "cpu": {name: [round(cpu, 3) for _, cpu in each] for name, each in seen.items()},
        "loads": loads,
        "positions": {**sizes, "of both takes": sum(side.pairs["lengths"])},
        "weights": sum(weight.numel() for weight in side.network.parameters()),
        "trained": sum(weight.numel() for weight in side.trained),
        "device": torch.cuda.get_device_name(side.device) if side.device.type == "cuda" else "cpu",
    }


@contextmanager
def _measured(device: Any) -> Iterator[list[tuple[float, float]]]:
    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    took: list[tuple[float, float]] = []
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    yield took
    wait()
    took.append((time.perf_counter() - wall, time.process_time() - cpu))


def _memory(task: dict[str, Any]) -> dict[str, Any]:
    """Return the peak in MiB of two steps, libraries left out; on a card of the tensors there."""
    import torch

    import tts_train_orpheus.stage  # noqa: F401 - libraries count for neither step

    before = _resident_mib()
    side = Side(task)
    for _ in range(2):
        side.does(task["step"])()
    if side.device.type == "cuda":
        return {"grown_mib": round(torch.cuda.max_memory_allocated(side.device) / MIB)}
    return {"grown_mib": round(peak_mib() - before), "peak_mib": peak_mib()}


def _resident_mib() -> float:
    from pathlib import Path

    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


# --- the released model, on shapes ----------------------------------------------------------------------------------


def _planned(task: dict[str, Any]) -> dict[str, Any]:
    """Return memory and time of a step of the released model as they are planned for a card."""
    import warnings

    from tts_train.memory.cards import GIB, card_named
    from tts_train.memory.step.ledger import estimate
    from tts_train.memory.step.step import run_steps

    warnings.filterwarnings("ignore")
    full = task["method"] == "full"
    module = _module(task["step"], task["method"], recompute=task["recompute"])
    trainer = {"precision": "bf16-true" if full else "bf16-mixed", "gradient_clip_val": 1.0}
    steps = run_steps(module, _batches(task["step"]), lambda done: None if done else task["tokens"], trainer)
    card = card_named(task["card"])
    took = estimate(steps[0].operations, card)
    return {
        "gib": round(steps[0].peak_bytes / GIB, 2),
        "step_ms": round(took.seconds * 1e3, 1),
        "device_ms": round(took.device_seconds * 1e3, 1),
        "host_waits": took.waits,
        "card": card.name,
    }


def _module(step: str, method: str, *, recompute: bool) -> Any:
    import torch

    from tts_train.families.token_lm.network.network import HeadOptions
    from tts_train.optim import OptimizerOptions
    from tts_train_orpheus.stage import OrpheusModule

    class PairModule(OrpheusModule):
        """The stage's network with the step of DPO."""

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            held = torch.zeros(len(batch["target_sizes"]), device=batch["said"].device)
            assert self.network is not None
            return _preference(self.network(batch, tokenwise=True), batch, held)

    kind = OrpheusModule if step == "plain" else PairModule
    optimizer = OptimizerOptions(name="adamw8bit")
    head = HeadOptions(chunk_tokens=CHUNK)
    return kind(method=method, optimizer=optimizer, head=head, gradient_checkpointing=recompute, kernels="fused")


def _batches(step: str) -> Callable[[int], Any]:
    """Return what makes a batch whose chosen takes have so many tokens."""
    from tts_train.families.token_lm.data.batch import pack_documents
    from tts_train.families.token_lm.network.late import sample_documents
    from tts_train.families.token_lm.preference.batch import IdPair, pair_batch
    from tts_train_orpheus.model import ORPHEUS

    def batch(tokens: int) -> Any:
        documents = sample_documents(ORPHEUS, tokens, speech_only=True)
        if step == "plain":
            return pack_documents(documents, ORPHEUS.layout)
        cut = [(each.input_ids[: each.learn_from], each.input_ids[each.learn_from :]) for each in documents]
        return pair_batch([IdPair("planned", prompt, take, take) for prompt, take in cut if len(take)], ORPHEUS.layout)

    return batch


# --- what is told ---------------------------------------------------------------------------------------------------


def _report(results: dict[str, Any]) -> str:
    about = results["machine"]
    lines = [
        "# A step of DPO beside the ordinary one",
        "",
        f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, {results['threads']} threads, revision "
        f"{about['revision']}, {about['started']}. `{about['command']}`",
    ]
    if results["ways"]:
        lines += [
            "",
            f"The ordinary step learns {results['takes']} chosen take(s), DPO's a rejected one besides for each. "
            "Medians; the processor's seconds in brackets. Memory is what a process grew by, or a card's tensors. All "
            "layers are recomputed but for `all kept`. `reference` is computed once for each pair, before training.",
            "",
            _measured_table(results["ways"]),
        ]
    if results["planned"]:
        lines += [
            "",
            "The released 3.3 B model, adamw8bit, layers recomputed but for `all kept`, fused kernels, planned for a "
            "card (no card ran). Tokens are those of the chosen takes.",
            "",
            _planned_table(results["planned"]),
        ]
    goals = f"Goals: {GOALS['time']} times the time, {GOALS['memory']} times the memory with LoRA."
    return "\n".join([*lines, "", goals])


def _measured_table(ways: dict[str, Any]) -> str:
    rows: list[Sequence[object]] = []
    for way, found in ways.items():
        wall, cpu = ({name: median(each) for name, each in found["time"][of].items()} for of in ("wall", "cpu"))
        memory = [found["memory"][step]["grown_mib"] for step in STEPS]
        seconds = [f"{wall[name]:.2f} ({cpu[name]:.2f})" for name in ("plain", "dpo", "reference")]
        ratio = f"{wall['dpo'] / wall['plain']:.2f} ({cpu['dpo'] / cpu['plain']:.2f})"
        rows.append([way, *seconds, ratio, *memory, f"{memory[1] / memory[0]:.2f}"])
    heads = ("trained", "plain s", "DPO s", "reference s", "time", "plain MiB", "DPO MiB", "memory")
    positions = [found["time"]["positions"] for found in ways.values()][:1]
    told = [
        f"{each['plain']} positions, {each['dpo']} of {each['of both takes']} with shared prompts."
        for each in positions
    ]
    loads = [load for found in ways.values() for load in found["time"]["loads"]]
    return "\n".join([table(heads, rows), "", *told, f"Load average {min(loads)} to {max(loads)}."])


def _planned_table(planned: dict[str, Any]) -> str:
    rows = []
    for name, found in planned.items():
        if len(found) == len(STEPS):
            plain, dpo = (found[step] for step in STEPS)
            ratios = [f"{dpo[key] / plain[key]:.2f}" for key in ("step_ms", "gib")]
            rows.append([name, plain["step_ms"], dpo["step_ms"], ratios[0], plain["gib"], dpo["gib"], ratios[1]])
    return table(("step", "plain ms", "DPO ms", "time", "plain GiB", "DPO GiB", "memory"), rows)


if __name__ == "__main__":
    main()
