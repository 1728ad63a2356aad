"""Recompute the figures of the loss, of the code predictor alone, and of training for some steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.qwen3_tts.reference import DESCRIPTIVE, KINDS, Reference, compared, gradients
from tests.qwen3_tts.upstream_loss import UPSTREAM, Faults, UpstreamNetwork, depth_logits
from tts_train.families.token_lm.frames.batch import pack_frames
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.optim import OptimizerOptions
from tts_train.optim.build import build_optimizer
from tts_train_qwen3_tts.layout import LAYOUT

_SAID = DESCRIPTIVE | {
    "lens_text_frames",
    "text_ids_rule",
    "codes_rule",
    "speaker_rule",
    "frames",
    "optimizer",
    "lr",
    "steps",
    "batch_rule",
    "trained",
}
_RIGHT = Faults(late=False, next_book=False, own_state=False, raw_text=False)
_SHIFTED = Faults(late=False, own_state=False, raw_text=False)
_CRASH = "_upstream_head"


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of losses."""
    rule = _predictor if "frames" in data else _steps if "steps" in data else _training
    for field, value in data.items():
        if field in KINDS:
            for size, cases in value.items():
                # One step's batch and another's have the same voices.
                reference = _reference(data, size, field, "s" if rule is _steps else "b")
                yield from rule(data, reference, f"{field}.{size}", cases)
        elif field == "sub_talker_weight":
            yield Figure(field, value, LAYOUT.depth_share)
        elif field.endswith(_CRASH) and field.removesuffix(_CRASH) in data["config"]:
            yield _crash(data, field, value)
        elif field not in _SAID:
            yield unknown(field, value)


def _reference(data: dict[str, Any], size: str, kind: str, tag: str) -> Reference:
    made = Reference(data, data["config"][size], kind)
    made.give_voices([f"speaker.{tag}.{i}" for i in range(len(data.get("lens_text_frames", ())))])
    return made


def _network(reference: Reference, case: str) -> FrameNetwork:
    """Return the network whose loss a case is of."""
    lm = reference.lm
    made = FrameNetwork(lm, lm.layout) if case == "correct" else UpstreamNetwork(lm, lm.layout, UPSTREAM[case])
    return made.eval()


# --- the loss ---------------------------------------------------------------------------------------------------------


def _training(data: dict[str, Any], reference: Reference, where: str, cases: dict[str, Any]) -> Iterator[Figure]:
    for case, expected in cases.items():
        if case != "correct" and case not in UPSTREAM:
            yield unknown(f"{where}.{case}", expected)
            continue
        batch = pack_frames(reference.rows(data["lens_text_frames"], "b"), reference.layout)
        network = _network(reference, case)
        network.zero_grad()
        output = network(batch)
        output.loss.backward()
        got = {**_losses(output), "grads": gradients(reference.lm), **_states(network, batch)}
        if case == "correct":
            labels = [frames + 1 for _, frames in data["lens_text_frames"]]
            got |= {
                "talker_loss_per_item_sum": [each.sum().item() for each in output.head.losses.split(labels)],
                "talker_labels_per_item": [int(each.sum()) for each in _labels(batch)],
                "sub_loss_per_head_mean": output.depth.losses.view(len(batch["codes"]), -1).mean(dim=0).tolist(),
                "talker_argmax_right": int((output.head.predictions == output.head.targets).sum()),
                "frames": len(batch["learnt"]),
            }
        yield from compared(f"{where}.{case}", expected, got, reference.kind)


def _crash(data: dict[str, Any], field: str, expected: str) -> Figure:
    """Return what becomes of upstream's loss where a text row is not as wide as the talker."""
    reference = _reference(data, field.removesuffix(_CRASH), "float32", "b")
    batch, got = pack_frames(reference.rows(data["lens_text_frames"], "b"), reference.layout), "a loss"
    try:
        _network(reference, "upstream_head")(batch)
    except RuntimeError as error:
        # The message was written down in so many letters.
        got = f"crashes: {error}"[: len(expected)]
    return Figure(field, expected, got)


def _losses(output: Any) -> dict[str, float]:
    first, depth = (part.loss_sum.item() / part.count for part in output.parts)
    return {"talker_loss": first, "sub_loss": depth, "total": output.loss.item()}


def _labels(batch: Any) -> list[Tensor]:
    return list((batch["targets"][0] >= 0).split(batch["lengths"]))


@torch.no_grad()
def _states(network: FrameNetwork, batch: Any) -> dict[str, Tensor]:
    """Return what the network reads and what it makes of it, at the labels of the right loss."""
    hidden = network.hidden_states(batch).flatten(0, 1)
    labelled = hidden[batch["kept"]]
    before = (network.shifted(batch) if isinstance(network, UpstreamNetwork) else batch)["before"]
    return {
        "embeds": network.embeds(batch),
        "hidden_at_labels": labelled,
        "logits_at_labels": network.lm.lm_head(labelled),
        "sub_hidden": hidden[before],
        "sub_logits": depth_logits(network, hidden[before], batch["codes"]),
    }


# --- the code predictor alone -----------------------------------------------------------------------------------------


def _predictor(data: dict[str, Any], reference: Reference, where: str, cases: dict[str, Any]) -> Iterator[Figure]:
    hidden = reference.inputs("cp.hidden", (data["frames"], reference.config.hidden_size)).requires_grad_()
    codes = reference.codes("cp.codes", data["frames"])
    lm = reference.lm
    with torch.no_grad():
        logits = depth_logits(FrameNetwork(lm, lm.layout).eval(), hidden, codes)
        greedy, margin = _greedy(lm, hidden, codes[:, 0])
    got: dict[str, Any] = {"logits": logits, "logits_shape": list(logits.shape), "greedy": greedy.tolist()}
    for case, faults in (("correct", _RIGHT), ("upstream", _SHIFTED)):
        network = UpstreamNetwork(lm, lm.layout, faults).eval()
        network.zero_grad()
        hidden.grad = None
        loss = network.depth_loss(hidden, codes)
        (loss.loss_sum / loss.count).backward()
        heads = lm.talker.code_predictor.lm_head
        got[case] = {
            "loss": loss.loss_sum.item() / loss.count,
            "hidden_grad_l2": hidden.grad.norm().item(),
            "grads": {part: each for part, each in gradients(lm).items() if each["params_with_grad"]},
            "lm_head_grad_l2": [head.weight.grad.norm().item() for head in heads],
            "per_head": loss.losses.view(data["frames"], -1).mean(dim=0).tolist(),
        }
    margins = {name: value for name, value in cases.items() if name == "greedy_min_margin"}
    yield from compared(where, {name: cases[name] for name in cases if name not in margins}, got, reference.kind)
    for name, value in margins.items():
        # A difference of two logits, which are of the order of 1 and have errors of their own.
        yield Figure(f"{where}.{name}", value, margin, tolerance=reference.kind.probe)


def _greedy(lm: Any, hidden: Tensor, first: Tensor) -> tuple[Tensor, float]:
    """Return the most likely codes (F, K - 1) one by one, and the least lead of one over the second."""
    network = FrameNetwork(lm, lm.layout).eval()
    books, leads = lm.layout.slots, []
    codes = torch.zeros(len(first), books, dtype=torch.long)
    codes[:, 0] = first
    for book in range(1, books):
        best = depth_logits(network, hidden, codes)[:, book - 1].topk(2)
        codes[:, book] = best.indices[:, 0]
        leads.append((best.values[:, 0] - best.values[:, 1]).min().item())
    return codes[:, 1:], min(leads)


# --- training ---------------------------------------------------------------------------------------------------------


def _steps(data: dict[str, Any], reference: Reference, where: str, cases: dict[str, Any]) -> Iterator[Figure]:
    decay, clip = (float(re.findall(rf"{word} ([\d.e-]+)", data["optimizer"])[0]) for word in ("decay", "norm"))
    options = OptimizerOptions(lr=data["lr"], weight_decay=decay, decay="all")
    for case, expected in cases.items():
        if case != "correct" and case not in UPSTREAM:
            yield unknown(f"{where}.{case}", expected)
            continue
        reference.give_voices(reference.config.voices)
        network = _network(reference, case)
        optimizer = build_optimizer(network, options)
        trajectory = []
        for step in range(data["steps"]):
            batch = pack_frames(reference.rows(data["lens_text_frames"], f"s{step}"), reference.layout)
            output = network(batch)
            optimizer.zero_grad()
            output.loss.backward()
            steepness = torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            trajectory.append({**_losses(output), "grad_norm_before_clip": steepness.item()})
        share = reference.kind.steps
        yield Figure(f"{where}.{case}.steps", len(expected["trajectory"]), len(trajectory))
        for step, (due, got) in enumerate(zip(expected["trajectory"], trajectory, strict=False)):
            yield from compared(f"{where}.{case}.trajectory[{step}]", due, got, reference.kind, share=share)
        rest = {name: value for name, value in expected.items() if name != "trajectory"}
        after = {"parameters_after": dict(reference.lm.named_parameters())}
        yield from compared(f"{where}.{case}", rest, after, reference.kind, share=share)
