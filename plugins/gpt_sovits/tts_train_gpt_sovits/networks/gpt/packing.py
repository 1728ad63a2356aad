"""Utterances of different lengths side by side without padding, and what each token sees.

A batch's tokens lie in one row: every text, then the codes of every utterance, then for pairs what each rejected
sequence has beyond the start that it shares with the chosen one. A text sees itself whole; a code sees its text and the
codes before it; a rejected suffix sees its text, the shared start and itself. So the text and the shared start of a
pair are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from tts_train_gpt_sovits.signal.versions import BERT_WIDTH


@dataclass(frozen=True, kw_only=True)
class GptUtterance:
    """One training example."""

    phonemes: Tensor
    """Symbol ids (X,), at least one."""
    codes: Tensor
    """Semantic codes (Y,), without the end token."""
    bert: Tensor | None = None
    """BERT features (X, 1024); None where the language has none, which means zeros."""
    rejected: Tensor | None = None
    """Codes (R,) that ``codes`` is preferred to."""
    cut_off: bool = False
    """Whether ``rejected`` was cut off, so that no end token follows it."""
    prompt: Tensor | None = None
    """Codes (P,) of a spoken prompt that both continue: they are seen, and carry no loss."""
    language: str | None = None
    """What it is spoken in, where known."""
    rehearsed: bool = False
    """Whether it is there so that something else is not forgotten."""


class Span(NamedTuple):
    """Tokens from ``start`` to ``end`` of a packed row and what they attend to besides themselves."""

    start: int
    end: int
    seen: tuple[tuple[int, int], ...]
    """Half-open ranges of earlier tokens that all of the span sees."""
    causal: bool
    """Whether a token of the span sees only those before it in the span."""

    @property
    def seen_and_own(self) -> tuple[tuple[int, int], ...]:
        """All that is seen, the span itself last."""
        return (*self.seen, (self.start, self.end))


class Grid(NamedTuple):
    """The same tokens as one padded row an utterance, for devices where one large kernel beats many small ones."""

    tokens: Tensor
    """Packed index of each cell (B, S); padding repeats token 0."""
    cells: Tensor
    """Flat cell of each packed token (N,)."""
    reach: Tensor
    """Last column that a cell sees (B, S)."""
    gap: Tensor
    """First column from which a cell sees nothing before ``resume`` (B, S)."""
    resume: Tensor
    """Column from which it sees again (B, S)."""


class PackedBatch(TypedDict):
    """A batch of utterances; tensors over tokens have no padding."""

    phonemes: Tensor
    text_positions: Tensor
    bert: Tensor
    """(texts' tokens, 1024), zeros where an utterance has none."""
    codes: Tensor
    """Input codes: the chosen ones, then the rejected suffixes."""
    code_positions: Tensor
    spans: list[Span]
    grid: Grid
    rows: Tensor
    """Tokens whose state predicts a target: of each utterance the last phoneme and every code."""
    targets: Tensor
    """What they predict: the codes, then the end token."""
    counts: list[int]
    """Targets of each utterance."""
    languages: list[str | None]
    """Language of each utterance."""
    rehearsed: bool
    """Whether the batch is rehearsal."""
    rejected_rows: NotRequired[Tensor]
    """The same beyond the shared start of each rejected sequence."""
    rejected_targets: NotRequired[Tensor]
    rejected_counts: NotRequired[list[int]]
    shared: NotRequired[list[int]]
    """Codes that the two sequences of each pair begin with, those of a prompt left out."""


def pack(utterances: Sequence[GptUtterance], *, end: int = 1024) -> PackedBatch:
    """Join utterances to a batch; ``end`` is the id of the end token.

    Raises:
        ValueError: if there is no utterance, one has no phonemes, or only some have a rejected sequence.
    """
    pairs = [utterance.rejected is not None for utterance in utterances]
    if not utterances or any(pairs) != all(pairs) or any(not len(each.phonemes) for each in utterances):
        raise ValueError("A batch needs utterances, each with phonemes, and rejected codes for all or for none.")
    # A prompt stands before both sequences of a pair, so it is a shared start of which no code is a target.
    prompts = [0 if each.prompt is None else len(each.prompt) for each in utterances]
    chosen = [_after_prompt(each, each.codes) for each in utterances]
    others = [_after_prompt(each, each.rejected) for each in utterances if each.rejected is not None]
    # Texts and shared starts are computed once for a pair, and only what follows them twice.
    shared = [_shared(*pair) for pair in zip(chosen, others, strict=True)] if others else [0] * len(utterances)
    suffixes = [codes[n:] for codes, n in zip(others, shared, strict=False)]
    xs, ys, zs = [len(each.phonemes) for each in utterances], [len(c) for c in chosen], [len(s) for s in suffixes]
    spans = _spans(xs, ys, zs, shared)
    both = list(zip(spans[: len(xs)], spans[len(xs) : 2 * len(xs)], strict=True))
    batch = PackedBatch(
        phonemes=torch.cat([each.phonemes for each in utterances]),
        text_positions=torch.cat([torch.arange(n) for n in xs]),
        bert=torch.cat([_bert(each) for each in utterances]),
        codes=torch.cat([*chosen, *suffixes]),
        code_positions=torch.cat([torch.arange(n) + at for n, at in _runs(ys, zs, shared)]),
        spans=[span for span in spans if span.end > span.start],
        grid=_grid(xs, ys, zs, shared),
        # The last phoneme predicts the first code: upstream since July 2025. Before that, the first code was never
        # trained.
        rows=torch.cat([_rows(text.end - 1, own)[n:] for (text, own), n in zip(both, prompts, strict=True)]),
        targets=torch.cat([_ended(each.codes, end) for each in utterances]),
        counts=[len(each.codes) + 1 for each in utterances],
        languages=[each.language for each in utterances],
        # A batch is of one set, so the first utterance speaks for all.
        rehearsed=utterances[0].rehearsed,
    )
    if suffixes:
        # What the first code of a suffix follows: the shared start, or the text.
        before = [own.start + n - 1 if n else text.end - 1 for (text, own), n in zip(both, shared, strict=True)]
        # Nothing is known of how what was cut off would have ended.
        targets = [s if each.cut_off else _ended(s, end) for each, s in zip(utterances, suffixes, strict=True)]
        branches = zip(before, spans[2 * len(xs) :], targets, strict=True)
        batch["rejected_rows"] = torch.cat([_rows(first, own)[: len(each)] for first, own, each in branches])
        batch["rejected_targets"] = torch.cat(targets)
        batch["rejected_counts"] = [len(each) for each in targets]
        batch["shared"] = [n - given for n, given in zip(shared, prompts, strict=True)]
    return batch


def _after_prompt(utterance: GptUtterance, codes: Tensor) -> Tensor:
    return codes if utterance.prompt is None else torch.cat([utterance.prompt, codes])


def _spans(xs: list[int], ys: list[int], zs: list[int], shared: list[int]) -> list[Span]:
    """Return the spans of all texts, all chosen sequences and all rejected suffixes, empty ones included."""
    ends = list(accumulate([*xs, *ys, *zs]))
    starts = [0, *ends[:-1]]
    count = len(xs)
    texts = [Span(starts[i], ends[i], (), False) for i in range(count)]
    inside = [((starts[i], ends[i]),) for i in range(count)]
    chosen = [Span(starts[count + i], ends[count + i], inside[i], True) for i in range(count)]
    kept = [((chosen[i].start, chosen[i].start + shared[i]),) if shared[i] else () for i in range(count)]
    return (
        texts
        + chosen
        + [Span(starts[j + 2 * count], ends[j + 2 * count], inside[j] + kept[j], True) for j in range(len(zs))]
    )


def _grid(xs: list[int], ys: list[int], zs: list[int], shared: list[int]) -> Grid:
    """Lay each utterance's text, chosen codes and rejected suffix into a row."""
    extra = zs or [0] * len(xs)
    widths = [sum(lengths) for lengths in zip(xs, ys, extra, strict=True)]
    size = (len(xs), max(widths))
    tokens, reach = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
    gap = torch.full(size, size[1])
    resume = gap.clone()
    starts = [0, *accumulate([*xs, *ys, *zs])]
    cells = torch.empty(starts[-1], dtype=torch.long)
    for row, (x, y, z) in enumerate(zip(xs, ys, extra, strict=True)):
        firsts = [starts[row], starts[len(xs) + row], starts[2 * len(xs) + row] if zs else 0]
        places = torch.cat([torch.arange(n) + first for n, first in zip((x, y, z), firsts, strict=True)])
        tokens[row, : len(places)] = places
        cells[places] = torch.arange(len(places)) + row * size[1]
        # A phoneme sees the whole text, a code what is before it.
        reach[row, :x] = x - 1
        reach[row, x : x + y + z] = torch.arange(x, x + y + z)
        # A rejected suffix does not see the chosen codes from where both part.
        gap[row, x + y : x + y + z] = x + shared[row]
        resume[row, x + y : x + y + z] = x + y
    return Grid(tokens, cells, reach, gap, resume)


def _shared(chosen: Tensor, rejected: Tensor) -> int:
    """Return how many codes two sequences begin with alike."""
    size = min(len(chosen), len(rejected))
    apart = (chosen[:size] != rejected[:size]).nonzero()
    return int(apart[0]) if len(apart) else size


def _runs(ys: list[int], zs: list[int], shared: list[int]) -> list[tuple[int, int]]:
    """Return length and first position of each run of codes."""
    return [*((n, 0) for n in ys), *zip(zs, shared[: len(zs)], strict=True)]


def _bert(utterance: GptUtterance) -> Tensor:
    if utterance.bert is None:
        return torch.zeros(len(utterance.phonemes), BERT_WIDTH)
    # Stored as float16; the projection's own type is chosen by autocast.
    return utterance.bert.to(torch.promote_types(utterance.bert.dtype, torch.float32))


def _rows(before: int, own: Span) -> Tensor:
    return torch.cat([torch.tensor([before]), torch.arange(own.start, own.end)])


def _ended(codes: Tensor, end: int) -> Tensor:
    return torch.cat([codes, codes.new_tensor([end])])
