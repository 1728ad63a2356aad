"""Recompute the figures of generation, greedy and sampled, and of the distributions that first codes are drawn from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.gpt_sovits.sovits_figures import compare_probe
from tests.qwen3_tts import parity
from tests.qwen3_tts.filling import inputs, integers
from tests.qwen3_tts.layouts import LAYOUTS, prompts
from tests.qwen3_tts.reference import DESCRIPTIVE, KINDS, Reference
from tests.qwen3_tts.upstream_decoding import GREEDY, UpstreamDecoding, distribution
from tts_train.families.token_lm.frames.decoding import FirstCodes
from tts_train.families.token_lm.model import Sampling
from tts_train_qwen3_tts.layout import layout_of

GOLDEN = Path(__file__).parent / "golden"
CLOSE = 1e-5
"""Lead of a logit below which its own error may decide."""
_SAID = DESCRIPTIVE | {"max_new_tokens", "logits_processors", "seed", "settings", "draws", "order", "vocab"}


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of generation."""
    if "vocab" in data:
        yield from _sampling(data)
    elif "settings" in data:
        yield from _sampled(data)
    else:
        yield from _greedy(data)


def _items(name: str) -> dict[str, Any]:
    """Return what a case's prompts are of: files of generation name the cases of the file of layouts beside them."""
    files = [path for folder in (*parity.FOLDERS, GOLDEN) if (path := folder / "sequence.json").is_file()]
    told = (_cases(path) for path in files)
    return next(cases[name] for cases in told if name in cases)


@lru_cache(maxsize=4)
def _cases(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("inference", {})
    return read


def _decoding(reference: Reference, name: str, frames: int, sampling: Sampling, **given: Any) -> UpstreamDecoding:
    """Generate ``frames`` frames for a case's prompts."""
    case, _, which = name.rpartition(".")
    told = _items(name)
    ids = prompts(reference, case, told["items"], told["model_type"])
    # Ours is the one with the whole text first.
    rows = None if which == "full_text" else [LAYOUTS[which](reference.layout, each) for each in ids]
    made = UpstreamDecoding(reference.lm, ids, rows=rows, frames=frames, sampling=sampling, **given)
    made.run()
    return made


def _spoken(decoding: UpstreamDecoding) -> list[list[list[int]]]:
    codes = torch.stack(decoding.codes, dim=1)
    return [row[:length].tolist() for row, length in zip(codes, decoding.lengths(), strict=True)]


# --- the most likely codes --------------------------------------------------------------------------------------------


def _greedy(data: dict[str, Any]) -> Iterator[Figure]:
    spoken: dict[str, dict[str, Any]] = {}
    for field, sizes in data.items():
        if field in KINDS:
            for size, cases in sizes.items():
                for case, expected in cases.items():
                    made = _most_likely(Reference(data, data["config"][size], field), case, data["max_new_tokens"])
                    spoken.setdefault(field, {})[f"{size}.{case}"] = _spoken(made)
                    wanted = {**_codes(data, size, case), **expected}
                    yield from _said(f"{field}.{size}.{case}", wanted, made, KINDS[field].probe)
        elif field not in _SAID | {"same_in_both_types"}:
            yield unknown(field, sizes)
    if "same_in_both_types" in data:
        yield Figure("same_in_both_types", data["same_in_both_types"], spoken["float32"] == spoken["float64"])


def _codes(data: dict[str, Any], size: str, case: str) -> dict[str, Any]:
    """Return the codes of a case, which are written down once for both types."""
    first = data.get("float32", {}).get(size, {}).get(case, {})
    return {"codes": first["codes"]} if "codes" in first else {}


def _most_likely(reference: Reference, case: str, tokens: int) -> UpstreamDecoding:
    name, _, penalty = case.rpartition(".penalty")
    return _decoding(reference, name, tokens, Sampling(temperature=0, repetition_penalty=float(penalty)))


def _said(where: str, expected: Mapping[str, Any], made: UpstreamDecoding, share: float) -> Iterator[Figure]:
    lengths, codes = made.lengths(), _spoken(made)
    margins = [value for name, value in expected.items() if name.startswith("min_margin")]
    if min(margins, default=1.0) < CLOSE and codes != expected.get("codes"):
        # Rounding decided, and what comes behind is other speech.
        sure = _sure(made)
        due, got = ([row[:end] for row, end in zip(each, sure, strict=True)] for each in (expected["codes"], codes))
        yield Figure(f"{where}.codes", due, got, note="up to the first tie")
        return
    for name, value in expected.items():
        place = f"{where}.{name}"
        if name == "codes":
            yield Figure(place, value, codes)
        elif name == "frames":
            yield Figure(place, value, lengths)
        elif name == "hidden":
            for row, (probe, length) in enumerate(zip(value, lengths, strict=True)):
                yield from compare_probe(
                    f"{place}[{row}]", probe, torch.stack([each[row] for each in made.states[:length]]), share
                )
        elif name in ("min_margin_talker", "min_margin_sub"):
            # A difference of two logits, which are of the order of 1 and have errors of their own.
            yield Figure(place, value, _lead(made, first=name.endswith("talker")), tolerance=share)
        else:
            yield unknown(place, value)


def _lead(made: UpstreamDecoding, *, first: bool) -> float:
    """Return the least lead of a code over the second best, of first codes or of the others.

    Rows that have ended are not looked at: what is said there is not heard.
    """
    # The end, and the code that comes when there is no room left, are drawn as well; behind them nothing is.
    rows = zip(made.leads_by_frame(first=first), made.lengths(), strict=True)
    return min(row[: length + first].min().item() for row, length in rows)


def _sure(made: UpstreamDecoding) -> list[int]:
    """Return how many frames of each row come before the first that two codes could have."""
    close = torch.minimum(made.leads_by_frame(first=True), made.leads_by_frame(first=False)) < CLOSE
    return [int(row.int().argmax()) if row.any() else len(row) for row in close]


# --- draws ------------------------------------------------------------------------------------------------------------


def _sampled(data: dict[str, Any]) -> Iterator[Figure]:
    chosen = data["settings"]
    talker, depth = (
        Sampling(
            temperature=chosen[f"{part}temperature"],
            top_k=chosen[f"{part}top_k"],
            top_p=chosen[f"{part}top_p"],
            repetition_penalty=1 if part else chosen["repetition_penalty"],
        )
        if chosen[f"{part}do_sample" if not part else f"{part}dosample"]
        else GREEDY
        for part in ("", "subtalker_")
    )
    seed = int(re.findall(r"manual_seed\((\d+)\)", data["seed"])[0])
    for size, cases in data.items():
        if size not in data["config"]:
            if size not in _SAID:
                yield unknown(size, cases)
            continue
        for case, expected in cases.items():
            drawn = {}
            for kind in KINDS:
                reference = Reference(data, data["config"][size], kind)
                generator = torch.Generator().manual_seed(seed)
                given = {"depth": depth, "generator": generator}
                drawn[kind] = _spoken(_decoding(reference, case, data["max_new_tokens"], talker, **given))
            got = {"codes": drawn["float32"], "same_in_float64": drawn["float32"] == drawn["float64"]}
            for name, value in expected.items():
                place = f"{size}.{case}.{name}"
                yield Figure(place, value, got[name]) if name in got else unknown(place, value)


# --- distributions ----------------------------------------------------------------------------------------------------

_GIVEN = {"history", "repetition_penalty", "temperature", "top_k", "top_p", "edits"}


def _sampling(data: dict[str, Any]) -> Iterator[Figure]:
    for name, case in data.items():
        if isinstance(case, dict) and "edits" in case:
            got = _measured(_probabilities(data, name, case), data["vocab"], eos=_end(data["vocab"]))
            for field, value in case.items():
                if field in _GIVEN:
                    continue
                place = f"{name}.{field}"
                # Probabilities and their entropy are made of float32 logits.
                near = 0.0 if isinstance(value, int) else 1e-5
                yield Figure(place, value, got[field], relative=near) if field in got else unknown(place, value)
        elif name not in _SAID | {"suppressed", "defaults"}:
            yield unknown(name, case)


def _end(rows: int) -> int:
    return layout_of(codes=rows - 1024, rows=rows).end_code


def _probabilities(data: dict[str, Any], name: str, case: dict[str, Any]) -> Tensor:
    """Return the probabilities (V,) of a case's first code."""
    rows, salt = data["vocab"], data.get("salt", "")
    layout = layout_of(codes=rows - 1024, rows=rows)
    logits = 4 * inputs(f"sampling.logits.{name}", (1, rows), salt=salt)
    history = integers(f"sampling.history.{name}", (case["history"],), layout.codes, salt=salt)
    if len(history):
        logits[0, history[0]] += 4
        logits[0, history[-1]] -= 3
    logits[0, layout.end_code] += 5
    fields = ("repetition_penalty", "temperature", "top_k", "top_p")
    sampling = Sampling(**{field: case[field] for field in fields})
    # An output matrix that gives the logits back.
    first = FirstCodes(layout, torch.eye(rows), 1, sampling)
    for code in history:
        first.note(code[None])
    made = first.logits(logits.float(), len(history))
    return torch.zeros(rows).index_copy_(0, first.rows, distribution(made, sampling)[0])


def _measured(probabilities: Tensor, rows: int, *, eos: int) -> dict[str, Any]:
    kept = probabilities.nonzero()[:, 0]
    best = probabilities.topk(min(8, len(kept)))
    inside = probabilities[kept]
    return {
        "kept": len(kept),
        "kept_sum_of_ids": int(kept.sum()),
        "top_ids": best.indices.tolist(),
        "top_probs": best.values.tolist(),
        "entropy": float(-(inside * inside.log()).sum()),
        "eos_probability": probabilities[eos].item(),
    }
