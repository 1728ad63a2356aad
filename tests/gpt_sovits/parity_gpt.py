"""Every figure of the reference's text-to-semantic stage, recomputed with our network, optimiser and sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tests.figures import Figure, unknown
from tests.gpt_sovits.filling import fill, inputs, integers
from tests.gpt_sovits.parity_gpt_figures import compared, gradients, probe
from tests.gpt_sovits.parity_gpt_steps import RATES, rates, samplers, trajectory
from tests.gpt_sovits.upstream import UpstreamSchedule, corrupt_padded
from tts_train.datasets import Corruption
from tts_train_gpt_sovits.networks.gpt.generate import SamplingOptions, generate
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.networks.gpt.padded import PaddedBatch, PaddedLayout, PaddedOutput, padded_forward
from tts_train_gpt_sovits.released.gpt_names import config_from_upstream, upstream_name
from tts_train_gpt_sovits.stages.gpt.dpo import preference
from tts_train_gpt_sovits.stages.gpt.optimizer import ScaledAdam, build_upstream_schedule

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_DESCRIPTIVE = {"salt", "name", "kind", "config", "torch", "python", "equal", "ragged", "s2"}


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield a figure for every value of a file of this stage."""
    if "s1" in data:
        yield from samplers(data["s1"])
    for name, value in data.items():
        if name in RATES:
            yield from rates(data["config"], name, value)
        elif name in DTYPES:
            yield from _part(data, name, value)
        elif name not in _DESCRIPTIVE | {"s1"}:
            yield unknown(name, value)


def _part(data: dict[str, Any], part: str, cases: dict[str, Any]) -> Iterator[Figure]:
    """Yield the figures computed in one type."""
    for name, expected in cases.items():
        title = name.split("(")[0]
        where = f"{part}.{title}"
        if isinstance(expected, dict) and "trajectory" in expected:
            yield from trajectory(where, data.get("salt", ""), DTYPES[part], expected)
            continue
        reference = _Reference(data, DTYPES[part])
        rule = _CASES.get(title) or _CASES.get(title.removesuffix("_as_upstream"))
        if rule is None:
            yield unknown(where, expected)
        else:
            yield from rule(reference, where, expected)


class _Reference:
    """The network and batches of a file in one type."""

    def __init__(self, data: dict[str, Any], dtype: torch.dtype) -> None:
        self.data = data
        self.dtype = dtype
        self.salt = data.get("salt", "")
        with torch.device("meta"):
            network = GptNetwork(replace(config_from_upstream(data["config"]["model"]), dropout=0.0))
        self.network = network.to_empty(device="cpu").to(dtype).eval()
        shapes = self.network.state_dict()
        filled = {n: fill(upstream_name(n), t.shape, salt=self.salt, dtype=dtype) for n, t in shapes.items()}
        self.network.load_state_dict(filled)
        self.end = self.network.config.end

    def utterances(self, which: str, tag: str) -> list[GptUtterance]:
        lengths = zip(self.data[which]["x_lens"], self.data[which]["y_lens"], strict=True)
        return [self._utterance(f"{tag}.{i}", i, x, y) for i, (x, y) in enumerate(lengths)]

    def _utterance(self, tag: str, row: int, x: int, y: int) -> GptUtterance:
        bert = inputs(f"bert{tag}", (1024, x), salt=self.salt, dtype=self.dtype).T
        return GptUtterance(
            phonemes=integers(f"phoneme{tag}", (x,), self.network.config.phonemes, salt=self.salt),
            codes=integers(f"semantic{tag}", (y,), self.end, salt=self.salt),
            bert=bert if row % 2 == 0 else torch.zeros_like(bert),
        )

    def padded(self, utterances: list[GptUtterance]) -> PaddedBatch:
        berts = [each.bert for each in utterances if each.bert is not None]
        return PaddedBatch(
            phonemes=pad_sequence([each.phonemes for each in utterances], batch_first=True),
            text_lengths=torch.tensor([len(each.phonemes) for each in utterances]),
            bert=pad_sequence(berts, batch_first=True),
            codes=pad_sequence([each.codes for each in utterances], batch_first=True, padding_value=self.end),
            code_lengths=torch.tensor([len(each.codes) for each in utterances]),
        )

    @property
    def corruptions(self) -> list[Corruption]:
        return [Corruption(*each) for each in self.data["ragged"]["dpo_ops"]]


def _padded_case(which: str, tag: str, layout: PaddedLayout, *, pairs: bool = False) -> Callable[..., Iterator[Figure]]:
    def rule(reference: _Reference, where: str, expected: dict[str, Any]) -> Iterator[Figure]:
        batch = reference.padded(reference.utterances(which, tag))
        output = padded_forward(reference.network, batch, layout)
        got: dict[str, Any] = {}
        loss = output.loss_sum
        if pairs:
            rejected = _rejected(reference, batch)
            other = padded_forward(reference.network, rejected, layout)
            loss = loss + _pair_figures(got, output, other, rejected)
        loss.backward()
        got.update(_output_figures(output, reference, loss))
        yield from compared(where, expected, got, reference.dtype)
        if which == "equal" and layout == "upstream" and not pairs:
            yield from _packed_equal(reference, f"{where}.packed", tag, expected)

    return rule


def _packed_equal(reference: _Reference, where: str, tag: str, expected: dict[str, Any]) -> Iterator[Figure]:
    """Compute a batch that needs no padding by the packed way, for both kernels."""
    for kernel in ("spans", "grid"):
        reference.network.zero_grad()
        reference.network.kernel = kernel
        batch = pack(reference.utterances("equal", tag), end=reference.end)
        output = reference.network(batch)
        output.loss_sum.backward()
        states = reference.network.packed_states(batch)[batch["rows"]]
        logits = reference.network.head(states).unflatten(0, (len(output.counts), -1))
        got = {
            "loss": output.loss_sum.item(),
            "top3_acc": output.top3(reference.end).item(),
            "grad_l2": gradients(reference.network),
            "logits": probe(logits),
            "logits_shape": list(logits.shape),
        }
        yield from compared(f"{where}.{kernel}", expected, got, reference.dtype)


def _rejected(reference: _Reference, batch: PaddedBatch) -> PaddedBatch:
    codes, lengths = corrupt_padded(batch.codes, reference.corruptions)
    return replace(batch, codes=codes, code_lengths=lengths)


def _pair_figures(got: dict[str, Any], output: PaddedOutput, other: PaddedOutput, rejected: PaddedBatch) -> Tensor:
    """Add the figures of a pair to ``got`` and return upstream's preference term."""
    term = preference(output.logps, other.logps).loss
    got.update(
        rejected_logits=probe(other.logits),
        rejected_logits_shape=list(other.logits.shape),
        rejected_y=rejected.codes.tolist(),
        rejected_len=rejected.code_lengths.tolist(),
        chosen_logps=output.logps.tolist(),
        rejected_logps=other.logps.tolist(),
        dpo_term=term.item(),
        ce_term=output.loss_sum.item(),
    )
    return term


def _output_figures(output: PaddedOutput, reference: _Reference, loss: Tensor) -> dict[str, Any]:
    return {
        "loss": loss.item(),
        "top3_acc": output.top3(reference.end).item(),
        "grad_l2": gradients(reference.network),
        "logits": probe(output.logits),
        "logits_shape": list(output.logits.shape),
    }


def _per_item(reference: _Reference, where: str, expected: list[dict[str, Any]]) -> Iterator[Figure]:
    """Compute all rows of a ragged batch at once; without padding each must be what it is on its own."""
    utterances = reference.utterances("ragged", ".rg")
    for kernel in ("spans", "grid"):
        reference.network.kernel = kernel
        output = reference.network(pack(utterances, end=reference.end))
        parts = zip(output.losses.split(output.counts), output.hits.split(output.counts), strict=True)
        got = [{"loss": own.sum().item(), "top3_acc": hit[:-1].double().mean().item()} for own, hit in parts]
        for row, (want, have) in enumerate(zip(expected, got, strict=True)):
            yield from compared(f"{where}.{kernel}[{row}]", want, have, reference.dtype)


def _train_run(*, pairs: bool) -> Callable[..., Iterator[Figure]]:
    def rule(reference: _Reference, where: str, expected: dict[str, Any]) -> Iterator[Figure]:
        network = reference.network
        optimizer = ScaledAdam(network.parameters(), lr=reference.data["config"]["optimizer"]["lr"])
        schedule = build_upstream_schedule(optimizer)
        nominal = UpstreamSchedule(**reference.data["config"]["optimizer"])
        log, steps = [], 0
        for entry in expected["log"]:
            epoch, number = entry["epoch"], entry["batch_idx"]
            batch = reference.padded(reference.utterances("equal", f".e{epoch}b{number}"))
            output = padded_forward(network, batch)
            loss = output.loss_sum
            if pairs:
                other = padded_forward(network, _rejected(reference, batch))
                loss = loss + preference(output.logps, other.logps).loss
            loss.backward()
            done = {"epoch": epoch, "batch_idx": number, "loss": loss.item(), "step": number > 0 and number % 4 == 0}
            if done["step"]:
                used = optimizer.param_groups[0]["lr"]
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                steps += 1
                after = optimizer.param_groups[0]["lr"]
                done.update(lr_used=used, lr_after=after, logged_lr=nominal.reported(steps))
            log.append(done)
        yield from compared(where, expected, {"log": log, **_final(network, optimizer)}, reference.dtype)

    return rule


def _final(network: GptNetwork, optimizer: ScaledAdam) -> dict[str, Any]:
    sums: dict[str, dict[str, float]] = {}
    for name, parameter in network.named_parameters():
        child = sums.setdefault(upstream_name(name).split(".")[1], {"sum": 0.0, "sumsq": 0.0})
        values = parameter.detach().double()
        child["sum"] += values.sum().item()
        child["sumsq"] += values.square().sum().item()
    numbers = {id(parameter): str(i) for i, parameter in enumerate(network.parameters())}
    return {
        "final_param_sums": sums,
        "final_alpha": {
            "ar_text_position.alpha": network.text_position.alpha.item(),
            "ar_audio_position.alpha": network.code_position.alpha.item(),
        },
        "optimizer_state_keys": {numbers[id(p)]: sorted(state) for p, state in optimizer.state.items()},
    }


def _greedy(reference: _Reference, where: str, expected: dict[str, Any]) -> Iterator[Figure]:
    network, salt = reference.network, reference.salt
    texts, prompted = expected["phonemes"], expected["prompt"]
    prompt = integers("infer.prompt", (prompted,), reference.end, salt=salt)
    options = SamplingOptions(
        top_k=expected["top_k"],
        top_p=expected["top_p"],
        temperature=expected["temperature"],
        repetition_penalty=expected["repetition_penalty"],
        max_codes=expected["early_stop_num"] + 1,
    )
    speech = generate(
        network,
        integers("infer.phoneme", (texts,), network.config.phonemes, salt=salt),
        prompt,
        bert=inputs("infer.bert", (1024, texts), salt=salt, dtype=reference.dtype).T,
        options=options,
    )
    # Upstream's number is that of the loop's last turn, which added a code unless the network ended the speech.
    turn = len(speech.codes) - (not speech.ended)
    yield Figure(
        f"{where}.returned_sequence_including_prompt",
        expected["returned_sequence_including_prompt"],
        torch.cat([prompt, speech.codes]).tolist(),
    )
    yield Figure(f"{where}.returned_idx", expected["returned_idx"], turn)
    for name in set(expected) - _GREEDY:
        yield unknown(f"{where}.{name}", expected[name])


_GREEDY = {
    "phonemes",
    "prompt",
    "early_stop_num",
    "top_k",
    "top_p",
    "temperature",
    "repetition_penalty",
    "returned_sequence_including_prompt",
    "returned_idx",
}
_CASES: dict[str, Callable[..., Iterator[Figure]]] = {
    "head_equal": _padded_case("equal", ".eq", "upstream"),
    "head_ragged": _padded_case("ragged", ".rg", "upstream"),
    "head_dpo_equal": _padded_case("equal", ".eq", "upstream", pairs=True),
    "head_dpo_ragged": _padded_case("ragged", ".rg", "upstream", pairs=True),
    "legacy_equal": _padded_case("equal", ".eq", "legacy"),
    "legacy_ragged": _padded_case("ragged", ".rg", "legacy"),
    "per_item_batch1": _per_item,
    "train_run_head": _train_run(pairs=False),
    "train_run_head_dpo": _train_run(pairs=True),
    "greedy_infer": _greedy,
}
