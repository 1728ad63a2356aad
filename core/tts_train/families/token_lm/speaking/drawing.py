"""Takes of single utterances, each with the ids that it was drawn from and those that were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tts_train.contract.jobs import Drawn
from tts_train.errors import DataError
from tts_train.families.token_lm.speaking.parts import MOST, length
from tts_train.sound import Sound

if TYPE_CHECKING:
    from tts_train.families.token_lm.decoding.generate import Continued
    from tts_train.families.token_lm.layout import Ids, TokenLayout
    from tts_train.families.token_lm.speaking.voice import TokenVoice

PROMPT_IDS, DRAWN_IDS = "prompt_ids", "drawn_ids"
DRAWN_COLUMNS = {PROMPT_IDS: "list<int32>", DRAWN_IDS: "list<int32>"}
"""What a take was drawn from, and every id that was drawn, the end of speech last where it came."""


def require_one_utterance(text: str) -> None:
    """Refuse a text that cannot be said as one utterance.

    Raises:
        DataError: if it is empty or too long, with its length and the longest.
    """
    if not text.strip():
        raise DataError("The text is empty.")
    # In parts, as synth says it, the parts would have one reward, and none of them would know which it is for.
    if length(text) > MOST:
        raise DataError(
            f"The text is as long as {length(text)} letters, and a take is one utterance of at most {MOST}, as models "
            "are trained on. Split it into sentences."
        )


def draw_takes(
    voice: TokenVoice,
    prompts: Sequence[Ids | DataError],
    *,
    seeds: Sequence[int],
    max_new_tokens: int,
    batch_size: int | None,
) -> Iterator[Drawn]:
    """Continue prompts together and yield a take of each, in order.

    Args:
        voice: What speaks.
        prompts: Ids to go on from, or why there are none.
        seeds: One for each.
        max_new_tokens: Most ids of each.
        batch_size: Most prompts at once; None takes what the memory has room for.
    """
    # Asked of every line before any is said: one that is too long must not end a batch of others.
    fitting = [_fitting(voice, prompt, max_new_tokens) for prompt in prompts]
    asked = [(prompt, seed) for prompt, seed in zip(fitting, seeds, strict=True) if not isinstance(prompt, DataError)]
    said: Iterator[Continued] = iter(())
    if asked:
        ids, own = [prompt for prompt, _ in asked], [seed for _, seed in asked]
        said = iter(voice.say(ids, seeds=own, max_new_tokens=max_new_tokens, batch_size=batch_size))
    for prompt, seed in zip(fitting, seeds, strict=True):
        yield Drawn(error=str(prompt)) if isinstance(prompt, DataError) else take_of(voice, prompt, next(said), seed)


def _fitting(voice: TokenVoice, prompt: Ids | DataError, most: int) -> Ids | DataError:
    """Return why a prompt is too long to be continued: the other lines must not end with it."""
    if isinstance(prompt, DataError):
        return prompt
    positions = voice.lm.config.max_position_embeddings
    # Never cut short in silence: a take that ends where positions do would be called one that did not end.
    room = voice.token_lm.layout.room(prompt, positions)
    if most <= room:
        return prompt
    return DataError(
        f"The prompt has {len(prompt)} ids and --max_new_tokens is {most}, and the model has room for {positions} "
        f"positions in all. Give --max_new_tokens {max(room, 1)} or less, or a shorter text."
    )


def take_of(voice: TokenVoice, prompt: Ids, said: Continued, seed: int) -> Drawn:
    """Return what came after a prompt as a take, with its sound where it has one."""
    content = said.content
    columns = {PROMPT_IDS: np.asarray(prompt, np.int32), DRAWN_IDS: np.asarray(said.ids, np.int32)}
    # Its ids are kept all the same: a stage may learn from them what not to say.
    if not content.frames:
        why = f"{len(said.ids)} tokens gave {content}"
        return Drawn(ended=content.ended, columns=columns, error=why)
    sound = Sound(voice.sound(content.codes, seed=seed).numpy(), voice.codec.sample_rate)
    frames = first_codes(voice.token_lm.layout, said)
    # It sounds, as what is no frame is passed over; preferred as it was drawn, it would teach to draw such ids.
    broken = content.ended and content.errors
    error = f"not whole frames alone: {content} (--constrain slots draws no others)" if broken else None
    return Drawn(sound=sound, frames=frames, ended=content.ended, columns=columns, error=error)


def first_codes(layout: TokenLayout, said: Continued) -> list[int]:
    """Return the first code of each frame that was said.

    The coarsest codebook tells what is said. The finer ones, of which a sampled loop has others each time round, would
    hide that it is one.
    """
    # The codes of a level lie frame after frame, several a frame in finer levels.
    codes: list[int] = said.content.codes[0][:: layout.level_rates[0]].tolist()
    return codes
