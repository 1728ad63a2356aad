"""From prompts to audio ids, one or many at a time, each with its own random numbers, and a count of what went wrong.

The loop is the project's own because ``transformers`` draws from the global generator: there, the sound of a text would
depend on what else is in its batch and on every draw before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.decoding import Decoding
from tts_train.families.token_lm.decoding.memory import rows_that_fit
from tts_train.families.token_lm.frames.decoding import FrameDecoding
from tts_train.families.token_lm.frames.layout import FrameLayout
from tts_train.families.token_lm.model import Constrain, Sampling
from tts_train.nn.room import in_batches

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from tts_train.families.token_lm.layout import FramesRead, Ids, TokenLayout

__all__ = ["END", "LIMIT", "Constrain", "Continued", "Sampling", "generate", "spoken", "stream"]

END, LIMIT = "end of speech", "max_new_tokens"
"""Why a generation stopped."""
READ_EVERY = 8
"""Steps that a card takes between two looks at what was drawn, where nobody waits for each."""


@dataclass(frozen=True, kw_only=True)
class Continued:
    """What came after one prompt."""

    ids: tuple[int, ...]
    """Every id generated, the end of speech included."""
    content: FramesRead
    """Its whole frames, and the count of what was none."""
    stopped_by: str
    """``end of speech`` or ``max_new_tokens``."""
    seconds: float
    """Time until it stopped."""

    @property
    def tokens_per_second(self) -> float:
        """Ids a second, the prompt's reading included; 82 keep up with speech."""
        return len(self.ids) / max(self.seconds, 1e-9)

    @property
    def errors(self) -> dict[str, int]:
        """How often which fault occurred."""
        content = self.content
        return {
            "wrong_slot": content.wrong_slot,
            "not_audio": content.not_audio,
            "incomplete_frame": content.incomplete,
        }


def generate(
    layout: TokenLayout,
    lm: LlamaForCausalLM,
    prompts: Sequence[Ids],
    *,
    seeds: Sequence[int],
    max_new_tokens: int | Sequence[int] = 1200,
    sampling: Sampling = Sampling(),
    batch_size: int | None = None,
) -> list[Continued]:
    """Continue each prompt until its end of speech.

    Args:
        layout: Of its ids.
        lm: In evaluation mode.
        prompts: Ids that end with the start of speech, of any lengths.
        seeds: One for each prompt. Each has its own noise, so that a text sounds the same alone and in a batch.
        max_new_tokens: Most ids to generate for each prompt: one number, or one for each.
        sampling: How ids are drawn.
        batch_size: Most prompts at once; None takes what the memory has room for. Where it runs out all the same, half
            as many are tried. What is said does not depend on it.

    Raises:
        ConfigError: if there are not as many seeds as prompts, or the model has no room for so many ids.
        torch.OutOfMemoryError: if there is no room for a single prompt.
        NumericError: if the network gives values that are not finite.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    sizes = _check(layout, lm, prompts, seeds, limits)
    # Those of a length together, as a batch goes on until its last row has ended.
    order = sorted(range(len(prompts)), key=lambda row: -sizes[row])

    def together(rows: Sequence[int]) -> list[Continued]:
        chosen: dict[str, Any] = {"seeds": [seeds[row] for row in rows], "limits": [limits[row] for row in rows]}
        return _together(layout, lm, [prompts[row] for row in rows], **chosen, sampling=sampling)

    two = isinstance(layout, FrameLayout)
    depth: dict[str, Any] = {"books": layout.slots, "depth": lm.depth.config} if two else {}
    most = batch_size or rows_that_fit(lm, max(sizes), **depth)
    made = dict(zip(order, in_batches(together, order, most, what="utterances"), strict=True))
    # In the order in which they were asked for.
    return [made[row] for row in range(len(prompts))]


def _together(
    layout: TokenLayout,
    lm: LlamaForCausalLM,
    prompts: Sequence[Ids],
    *,
    seeds: Sequence[int],
    limits: Sequence[int],
    sampling: Sampling,
) -> list[Continued]:
    started = time.perf_counter()
    outputs: list[list[int]] = [[] for _ in prompts]
    seconds = [0.0] * len(prompts)
    for drawn in _steps(layout, lm, prompts, seeds=seeds, limits=limits, sampling=sampling, chunk=READ_EVERY):
        for row, token in drawn.items():
            outputs[row].append(token)
            # Written again at each id: the last one is when the row ended.
            seconds[row] = time.perf_counter() - started
    return [spoken(layout, ids, took) for ids, took in zip(outputs, seconds, strict=True)]


def stream(
    layout: TokenLayout,
    lm: LlamaForCausalLM,
    prompt: Ids,
    *,
    seed: int,
    max_new_tokens: int = 1200,
    sampling: Sampling = Sampling(),
) -> Iterator[int]:
    """Yield the ids that :func:`generate` gives for one prompt, each as soon as it is there."""
    _check(layout, lm, [prompt], [seed], [max_new_tokens])
    for drawn in _steps(layout, lm, [prompt], seeds=[seed], limits=[max_new_tokens], sampling=sampling, chunk=1):
        yield drawn[0]


def spoken(layout: TokenLayout, ids: Sequence[int], seconds: float) -> Continued:
    """Read generated ids; ``seconds`` is how long they took."""
    content = layout.read_generated(ids)
    return Continued(ids=tuple(ids), content=content, stopped_by=END if content.ended else LIMIT, seconds=seconds)


@torch.inference_mode()
def _steps(
    layout: TokenLayout,
    lm: LlamaForCausalLM,
    prompts: Sequence[Ids],
    *,
    seeds: Sequence[int],
    limits: Sequence[int],
    sampling: Sampling,
    chunk: int,
) -> Iterator[dict[int, int]]:
    """Yield, for each step, the id of every row that has not ended before."""
    given: dict[str, Any] = {"seeds": seeds, "limits": limits, "sampling": sampling}
    if isinstance(layout, FrameLayout):
        yield from FrameDecoding(layout, lm, prompts, **given).tokens(chunk=chunk)
    else:
        yield from Decoding(layout, lm, prompts, **given).tokens(chunk=chunk)


def _check(
    layout: TokenLayout, lm: LlamaForCausalLM, prompts: Sequence[Ids], seeds: Sequence[int], limits: Sequence[int]
) -> list[int]:
    """Return the positions that each prompt and what comes after it take at most."""
    if not len(seeds) == len(limits) == len(prompts) or not prompts:
        raise ConfigError(f"generate needs one seed for each prompt, not {len(seeds)} for {len(prompts)}.")
    if min(limits) < 1:
        raise ConfigError(f"--max_new_tokens must be at least 1, and {min(limits)} was given.")
    # Refused before anything is drawn, and not in the middle of an utterance where positions run out.
    room, sizes = lm.config.max_position_embeddings, []
    for prompt, limit in zip(prompts, limits, strict=True):
        read = len(layout.starts(prompt))
        sizes.append(read + -(-limit * layout.frame_positions // layout.slots))
        if sizes[-1] > room:
            most = max(layout.room(prompt, room), 1)
            raise ConfigError(
                f"The prompt has {len(prompt)} ids and --max_new_tokens is {limit}, and the model has room for {room} "
                f"in all. Give --max_new_tokens {most} or less, or a shorter text."
            )
    return sizes
