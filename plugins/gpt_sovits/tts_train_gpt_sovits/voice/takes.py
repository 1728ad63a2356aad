"""Takes: a line said as one utterance, many at once, each with what its codes were drawn from.

A take continues the reference, as everything that is spoken does, so that what is learnt from it is what users hear:
the phonemes of both stand before the reference's codes, and those before the codes that were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tts_train.contract import DataError, Drawn, Sound
from tts_train_gpt_sovits.networks.gpt.generate import GptLine, SamplingOptions, generate_lines
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.preparing.encode import text_features
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH
from tts_train_gpt_sovits.voice.reference import Reference
from tts_train_gpt_sovits.voice.voice import Delivery, Ready

MOST_PHONEMES = 540
"""Phonemes of the longest text that the stage ``gpt`` trains on by default."""
_MOST, _MOST_ON_CPU = 64, 16
"""Most takes at once: a CPU gains little beyond, and all of a page wait for its last."""
_CPU_BYTES = 2 << 30
"""Keys and values of a page on a CPU; on a card they take up to half of what is free."""
_TEXTS = 64
"""Texts whose phonemes and features are kept: those of one text's takes are the same."""


@dataclass(frozen=True, kw_only=True)
class TakeLine:
    """One take to draw."""

    text: str
    language: str
    reference: Reference
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A take that can be drawn."""

    text: Tensor
    """Phonemes of the text alone (X,)."""
    line: GptLine
    reference: Reference
    chance: torch.Generator
    """What the sound varies by."""


_Read: TypeAlias = "_Asked | str"
"""A take, or why there is none."""


def draw_takes(
    ready: Ready, lines: Sequence[TakeLine], *, sampling: SamplingOptions, delivery: Delivery
) -> Iterator[Drawn]:
    """Yield a take of each line, in order; one with ``error`` for a line that cannot be said.

    Args:
        ready: Networks and what reads texts.
        lines: What to say.
        sampling: How codes are drawn.
        delivery: How they become sound.
    """
    gpt = ready.voice.gpt
    assert gpt is not None
    # A text is read once for all its takes: its features cost more than drawing some codes.
    read = lru_cache(maxsize=_TEXTS)(lambda text, language: _read(ready, text, language))
    for page in _pages((_ask(ready, line, read) for line in lines), gpt, sampling.max_codes):
        asked = [each for each in page if isinstance(each, _Asked)]
        said = iter(generate_lines(gpt, [each.line for each in asked], options=sampling) if asked else ())
        for each in page:
            if isinstance(each, str):
                yield Drawn(error=each)
                continue
            speech = next(said)
            codes = speech.codes.cpu()
            # One at a time: sounds have other lengths, and chance of their own.
            wave = ready.voice.sound(codes, each.text, each.reference, delivery=delivery, generator=each.chance)
            yield Drawn(
                sound=Sound(wave.numpy(), ready.voice.sample_rate),
                frames=codes.tolist(),
                ended=speech.ended,
                columns=_columns(each, codes),
            )


def _read(ready: Ready, text: str, language: str) -> tuple[Tensor, Tensor | None]:
    """Return phonemes and features of a text.

    Raises:
        DataError: if it cannot be read, or is longer than any that training sees.
    """
    said = ready.front_end.speak(text, language)
    # The network would take more and lose its place in it: it was taught none that is longer.
    if len(said.ids) > MOST_PHONEMES:
        raise DataError(f"{len(said.ids)} phonemes are more than the {MOST_PHONEMES} of an utterance. Cut the text.")
    features = text_features([said], ready.voice.bert)[0]
    return torch.tensor(said.ids), None if features is None else features.cpu()


def _ask(ready: Ready, line: TakeLine, read: Callable[[str, str], tuple[Tensor, Tensor | None]]) -> _Read:
    try:
        text, features = read(line.text, line.language)
    except DataError as error:
        # Not a whole set for one line: other takes go on, and this one is counted.
        return str(error)
    chance, reference = ready.voice.chance(line.seed), line.reference
    if features is None:
        features = torch.zeros(len(text), BERT_WIDTH)
    bert = torch.cat([reference.bert.cpu(), features])
    # The seed is drawn as speaking one sentence draws it, so that `synth` with this seed says the same.
    seed = int(torch.randint(2**62, (), generator=chance, device=chance.device))
    drawn = GptLine(
        phonemes=torch.cat([reference.phonemes, text]),
        prompt=reference.codes,
        # Rounded as they are kept, so that training sees what the take was drawn from.
        bert=bert.half().float() if bert.any() else None,
        seed=seed,
    )
    return _Asked(text=text, line=drawn, reference=reference, chance=chance)


def _pages(takes: Iterable[_Read], gpt: GptNetwork, codes: int) -> Iterator[list[_Read]]:
    """Yield takes as many at a time as there is room for, with up to so many codes each."""
    device = gpt.head.weight.device
    most, room = (_MOST_ON_CPU, _CPU_BYTES) if device.type == "cpu" else (_MOST, _free(device) // 2)
    # A cache is as wide as its longest take, so the longest of a page decides how many fit.
    page: list[_Read] = []
    longest = 0
    for take in takes:
        size = len(take.line.phonemes) + len(take.line.prompt) + codes if isinstance(take, _Asked) else 0
        each = 2 * gpt.config.layers * gpt.config.width * gpt.head.weight.itemsize * max(longest, size)
        if page and (len(page) == most or (len(page) + 1) * each > room):
            yield page
            page, longest = [], 0
        page.append(take)
        longest = max(longest, size)
    if page:
        yield page


def _free(device: torch.device) -> int:
    # What torch holds without using it is not counted, so this is on the safe side.
    return torch.cuda.mem_get_info(device)[0]


def _columns(take: _Asked, codes: Tensor) -> dict[str, Any]:
    line = take.line
    return {
        "phonemes": _whole(line.phonemes),
        "prompt_phonemes": len(take.reference.phonemes),
        "bert": None if line.bert is None else line.bert.half().flatten().numpy(),
        "prompt": _whole(line.prompt),
        "codes": _whole(codes),
    }


def _whole(numbers: Tensor) -> np.ndarray[Any, np.dtype[np.int32]]:
    return numbers.cpu().numpy().astype(np.int32)
