"""Every figure of the reference's text-to-semantic stage, recomputed with our network, optimiser and sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tests.figures import Figure, unknown
from tests.gpt_sovits.filling import fill, hash_u, inputs, integers
from tts_train_gpt_sovits.gpt.batches import UpstreamSampler
from tts_train_gpt_sovits.gpt.dpo import Corruption, corrupt_padded, preference
from tts_train_gpt_sovits.gpt.generate import SamplingOptions, generate
from tts_train_gpt_sovits.gpt.names import config_from_upstream, upstream_name
from tts_train_gpt_sovits.gpt.network import GptNetwork
from tts_train_gpt_sovits.gpt.packing import Utterance, pack
from tts_train_gpt_sovits.gpt.padded import PaddedBatch, PaddedLayout, PaddedOutput, padded_forward
from tts_train_gpt_sovits.gpt.scaled_adam import ScaledAdam
from tts_train_gpt_sovits.gpt.schedule import UpstreamSchedule, build_upstream_schedule

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_LOSS = {torch.float32: 1e-4, torch.float64: 1e-5}
_GRADIENT = {torch.float32: 1e-3, torch.float64: 1e-4}
_PROBE = 1e-4
_RATE = 1e-12
_DESCRIPTIVE = {"salt", "name", "kind", "config", "torch", "python", "equal", "ragged", "s2"}


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield a figure for every value of a file of this stage."""
    if "s1" in data:
        yield from _samplers(data["s1"])
    for name, value in data.items():
        if name in _RATES:
            yield from _rates(data["config"], name, value)
        elif name in _DTYPES:
            yield from _part(data, name, value)
        elif name not in _DESCRIPTIVE | {"s1"}:
            yield unknown(name, value)


def _part(data: dict[str, Any], part: str, cases: dict[str, Any]) -> Iterator[Figure]:
    """Yield the figures computed in one type."""
    for name, expected in cases.items():
        title = name.split("(")[0]
        where = f"{part}.{title}"
        if isinstance(expected, dict) and "trajectory" in expected:
            yield from _trajectory(where, data.get("salt", ""), _DTYPES[part], expected)
            continue
        reference = _Reference(data, _DTYPES[part])
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

    def utterances(self, which: str, tag: str) -> list[Utterance]:
        lengths = zip(self.data[which]["x_lens"], self.data[which]["y_lens"], strict=True)
        return [self._utterance(f"{tag}.{i}", i, x, y) for i, (x, y) in enumerate(lengths)]

    def _utterance(self, tag: str, row: int, x: int, y: int) -> Utterance:
        bert = inputs(f"bert{tag}", (1024, x), salt=self.salt, dtype=self.dtype).T
        return Utterance(
            phonemes=integers(f"phoneme{tag}", (x,), self.network.config.phonemes, salt=self.salt),
            codes=integers(f"semantic{tag}", (y,), self.end, salt=self.salt),
            bert=bert if row % 2 == 0 else torch.zeros_like(bert),
        )

    def padded(self, utterances: list[Utterance]) -> PaddedBatch:
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
        yield from _compared(where, expected, got, reference.dtype)
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
            "grad_l2": _gradients(reference.network),
            "logits": _probe(logits),
            "logits_shape": list(logits.shape),
        }
        yield from _compared(f"{where}.{kernel}", expected, got, reference.dtype)


def _rejected(reference: _Reference, batch: PaddedBatch) -> PaddedBatch:
    codes, lengths = corrupt_padded(batch.codes, reference.corruptions)
    return replace(batch, codes=codes, code_lengths=lengths)


def _pair_figures(got: dict[str, Any], output: PaddedOutput, other: PaddedOutput, rejected: PaddedBatch) -> Tensor:
    """Add the figures of a pair to ``got`` and return upstream's preference term."""
    term = preference(output.logps, other.logps).loss
    got.update(
        rejected_logits=_probe(other.logits),
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
        "grad_l2": _gradients(reference.network),
        "logits": _probe(output.logits),
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
            yield from _compared(f"{where}.{kernel}[{row}]", want, have, reference.dtype)


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
        yield from _compared(where, expected, {"log": log, **_final(network, optimizer)}, reference.dtype)

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


def _trajectory(where: str, salt: str, dtype: torch.dtype, expected: dict[str, Any]) -> Iterator[Figure]:
    """Step parameters by a given gradient; the figures of each step and the state at the end."""
    steps = len(expected["trajectory"])
    shapes = {name: tuple(shape) for name, shape in expected["shapes"]}

    def made(kind: str, name: str) -> Tensor:
        drawn = torch.from_numpy(hash_u(f"{salt}sa.{kind}.{name}", math.prod(shapes[name])))
        return drawn.view(shapes[name]).to(dtype)

    parameters = {name: torch.nn.Parameter(made("p", name)) for name in shapes}
    optimizer = ScaledAdam(parameters.values(), clipping_update_period=expected["clipping_update_period"])
    schedule = build_upstream_schedule(optimizer)
    for k, entry in enumerate(expected["trajectory"]):
        loud = 20.0 if k == steps // 2 else 1.0
        for i, (name, parameter) in enumerate(parameters.items()):
            wave = loud * (1 + 0.25 * math.sin(k + i))
            parameter.grad = (parameter.detach() - made("t", name)) * wave
        optimizer.step()
        schedule.step()
        got = {
            "step": k,
            "amp": loud,
            "params": {name: parameter.flatten().tolist() for name, parameter in parameters.items()},
            "sum": {name: parameter.detach().double().sum().item() for name, parameter in parameters.items()},
        }
        # Values are of the order of 1.
        given = {name: value for name, value in entry.items() if value is not None}
        wanted = {name: value for name, value in got.items() if entry.get(name) is not None}
        yield from _equal(f"{where}[{k}]", given, wanted, 1e-6 if dtype == torch.float64 else 1e-5)
    numbers = {id(parameter): str(i) for i, parameter in enumerate(parameters.values())}
    states = {numbers[id(parameter)]: state for parameter, state in optimizer.state.items()}
    for number, state in expected["state_keys"].items():
        have = {
            key: list(value.shape) if isinstance(value, Tensor) else value
            for key, value in states.get(number, {}).items()
        }
        yield from _equal(f"{where}.state[{number}]", dict(sorted(state.items())), dict(sorted(have.items())), 1e-5)
    yield Figure(f"{where}.state", sorted(expected["state_keys"]), sorted(states))
    for name in set(expected) - _TRAJECTORY:
        yield unknown(f"{where}.{name}", expected[name])


def _samplers(expected: dict[str, Any]) -> Iterator[Figure]:
    seconds, size = expected["lengths_sec"], expected["batch_size"]
    yield Figure("s1.buckets", expected["buckets"], UpstreamSampler(seconds, size).buckets)
    for number, case in enumerate(expected["cases"]):
        sampler = UpstreamSampler(seconds, size, replicas=case["replicas"], rank=case["rank"])
        yield Figure(f"s1.cases[{number}].indices", case["indices"], sampler.indices(case["epoch"]))
        for name in set(case) - {"replicas", "rank", "epoch", "indices"}:
            yield unknown(f"s1.cases[{number}].{name}", case[name])
    for name in set(expected) - {"lengths_sec", "batch_size", "buckets", "cases"}:
        yield unknown(f"s1.{name}", expected[name])


def _rates(config: dict[str, float], name: str, expected: dict[str, float]) -> Iterator[Figure]:
    fields = ("lr", "lr_init", "lr_end", "warmup_steps", "decay_steps")
    schedule = UpstreamSchedule(**{field: config[field] for field in fields})  # type: ignore[arg-type]
    if config.get("optimizer_ctor_lr", schedule.lr) != schedule.lr:
        yield Figure(f"{name}.optimizer_ctor_lr", config["optimizer_ctor_lr"], schedule.lr)
    for step, rate in expected.items():
        yield Figure(f"{name}[{step}]", rate, _RATES[name](schedule, int(step)), tolerance=_RATE)


def _compared(where: str, expected: Mapping[str, Any], got: Mapping[str, Any], dtype: torch.dtype) -> Iterator[Figure]:
    """Yield a figure for each field of a case with the tolerance of its kind; unknown fields fail."""
    for name, value in expected.items():
        place = f"{where}.{name}"
        if name not in got:
            yield unknown(place, value)
        elif isinstance(value, dict) and "sumsq" in value and "idx" in value:
            yield from _probed(place, value, got[name])
        elif name == "final_param_sums":
            yield from _summed(place, value, got[name])
        elif name == "grad_l2":
            yield Figure(place, value, got[name], relative=_GRADIENT[dtype])
        elif name == "dpo_term":
            # The term is a function of a difference of log-probabilities, whose tolerance is that of the losses.
            scale = 0.2 * sum(abs(each) for each in expected["chosen_logps"]) / len(expected["chosen_logps"])
            yield Figure(place, value, got[name], relative=max(_LOSS[dtype] * scale, _LOSS[dtype]), tolerance=1e-15)
        elif name == "top3_acc":
            yield Figure(place, value, got[name], tolerance=1e-6)
        else:
            yield Figure(place, value, got[name], relative=_LOSS[dtype])


def _probed(where: str, expected: dict[str, Any], got: dict[str, Any]) -> Iterator[Figure]:
    rms = math.sqrt(expected["sumsq"] / max(expected["numel"], 1))
    for name, value in expected.items():
        allowed = {"sum": _PROBE * math.sqrt(expected["sumsq"]), "sumsq": _PROBE * expected["sumsq"]}
        yield Figure(f"{where}.{name}", value, got.get(name), tolerance=allowed.get(name, _PROBE * rms))


def _summed(where: str, expected: dict[str, Any], got: dict[str, Any]) -> Iterator[Figure]:
    for child, sums in expected.items():
        yield Figure(f"{where}.{child}", sums, got.get(child), tolerance=_PROBE * math.sqrt(sums["sumsq"]))


def _equal(where: str, expected: dict[str, Any], got: dict[str, Any], tolerance: float) -> Iterator[Figure]:
    for name in [*expected, *(set(got) - set(expected))]:
        yield Figure(f"{where}.{name}", expected.get(name), got.get(name), tolerance=tolerance, relative=tolerance)


def _probe(tensor: Tensor) -> dict[str, Any]:
    flat = tensor.detach().double().flatten()
    places = [(i * (len(flat) - 1)) // 9 for i in range(10)]
    return {
        "numel": len(flat),
        "sum": flat.sum().item(),
        "sumsq": flat.square().sum().item(),
        "idx": places,
        "values": flat[places].tolist(),
    }


def _gradients(network: GptNetwork) -> dict[str, dict[str, float]]:
    """Return the gradients' norms of upstream's top-level modules and of all."""
    found: dict[str, dict[str, float]] = {}
    for name, parameter in network.named_parameters():
        for child in (upstream_name(name).split(".")[1], "<all>"):
            entry = found.setdefault(child, {"l2": 0.0, "params_with_grad": 0, "params": 0})
            entry["params"] += 1
            if parameter.grad is not None:
                entry["params_with_grad"] += 1
                entry["l2"] += parameter.grad.double().square().sum().item()
    everything = found.pop("<all>")
    ordered = {**found, "<all>": everything}
    return {child: {**entry, "l2": math.sqrt(entry["l2"])} for child, entry in ordered.items()}


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
_TRAJECTORY = {"gradient", "lr", "clipping_update_period", "shapes", "trajectory", "state_keys"}
_RATES: dict[str, Callable[[UpstreamSchedule, int], float]] = {
    "effective_lr_used_by_optimizer_step_k": UpstreamSchedule.effective,
    "get_last_lr_before_scheduler_step_k": UpstreamSchedule.reported,
    "nominal_warmup_cosine_if_not_overridden": UpstreamSchedule.nominal,
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
