"""A long text in parts that the model can say, and what came of them joined to one sound."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tts_train.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from tts_train.families.token_lm.decoding.generate import Continued
    from tts_train.families.token_lm.layout import TokenLayout

MOST = 180
"""Letters of a part: about 12 seconds. Models are trained on utterances of up to about 15, and end anywhere in longer
texts."""
_FASTEST = 40
"""Letters a second beyond which nobody speaks: something was left out."""
_WIDE = 3
"""How many letters a Chinese character, a kana or a Korean syllable takes as long as."""

# A full stop ends a sentence before a space only, as in 3.5; Chinese marks have no space behind them.
_SENTENCES = re.compile(r"(?<=[。！？…!?\n])|(?<=\.)(?=\s)")
_CLAUSES = re.compile(r"(?<=[，、；：])|(?<=[,;:])(?=\s)|(?=\s[–—-]\s)")
_WORDS = re.compile(r"(?=\s)")
_LETTERS = re.compile(r"(?<=[^\x00-\u2fff])")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SpokenPart:
    """What was said of one part."""

    text: str
    spoken: Continued
    sound: Tensor
    """float32 (samples,)."""


def split_text(text: str, most: int = MOST) -> list[str]:
    """Return a text in parts of at most ``most`` letters: whole sentences, else clauses, else words.

    A text that is short enough is one part, as it stands.
    """
    if length(text) <= most:
        return [text] if text.strip() else []
    # The coarsest cut that helps, and finer ones only within what is still too long.
    for ends in (_SENTENCES, _CLAUSES, _WORDS, _LETTERS):
        pieces = [piece for piece in ends.split(text) if piece.strip()]
        if len(pieces) > 1:
            return _joined([part.strip() for piece in pieces for part in split_text(piece, most)], most)
    return [text]


def length(text: str) -> int:
    """Return how many letters of Latin script a text takes as long as."""
    return sum(_WIDE if character > "\u2fff" else 1 for character in text.strip())


def _joined(parts: Sequence[str], most: int) -> list[str]:
    """Join neighbours as long as they fit, so that the model hears as much of a text at once as it can."""
    joined: list[str] = []
    for part in parts:
        # Chinese and Japanese are written without spaces.
        space = "" if joined and joined[-1][-1:] > "\u2fff" else " "
        if joined and length(joined[-1] + space + part) <= most:
            joined[-1] += space + part
        else:
            joined.append(part)
    return joined


def join(parts: Sequence[SpokenPart], *, pause: float, sample_rate: int) -> Tensor:
    """Return the sounds one after another, with ``pause`` seconds of silence between."""
    import torch

    # Between parts only: the first piece of the list is left out below.
    silence = torch.zeros(int(pause * sample_rate))
    sounds = [sound for part in parts if len(part.sound) for sound in (silence, part.sound)]
    return torch.cat(sounds[1:]) if sounds else torch.zeros(0)


def judge(layout: TokenLayout, parts: Sequence[SpokenPart], *, max_new_tokens: int, unwritten: str) -> None:
    """Say what went wrong.

    Args:
        layout: Of the ids.
        parts: What was generated.
        max_new_tokens: Most tokens of a part.
        unwritten: The file that is not written if nothing was spoken.

    Raises:
        DataError: if no part has a whole frame.
    """
    from tts_train.families.token_lm.decoding.generate import LIMIT

    # A silent part among others is told of below. Nothing at all is an error, and no file is written.
    if not any(part.spoken.content.frames for part in parts):
        first = parts[0].spoken
        if max_new_tokens < layout.slots:
            raise DataError(
                f"Nothing was spoken: --max_new_tokens {max_new_tokens} is less than a frame of sound, which has "
                f"{layout.slots} tokens. {unwritten} was not written. Give more; {math.ceil(layout.tokens_per_second)} "
                "are a second."
            )
        raise DataError(
            f"Nothing was spoken: {len(first.ids)} tokens gave {first.content}. {unwritten} was not written. Train "
            "longer, hold the model to the layout with --constrain slots, or try another --seed."
        )
    for part in parts:
        content = part.spoken.content
        seconds = content.frames * layout.frame_samples / layout.sample_rate
        where = "" if len(parts) == 1 else f" in {_shown(part.text)}"
        if part.spoken.stopped_by == LIMIT:
            _log.warning(
                "The model had not finished at --max_new_tokens %d (%.1f s of sound)%s. Give --max_new_tokens %d, or "
                "split the text into sentences.",
                max_new_tokens,
                seconds,
                where,
                2 * max_new_tokens,
            )
        # Not where it was cut off: that was told just now, and is the reason.
        elif length(part.text) > _FASTEST * seconds:
            _log.warning(
                "Only %.2f s were spoken of %d letters, so words are missing: %s. Train longer, or try another --seed.",
                seconds,
                len(part.text),
                _shown(part.text),
            )
        if content.errors:
            _log.warning("Some of what was generated is no sound and was left out%s: %s.", where, content)


def totals(parts: Sequence[SpokenPart]) -> dict[str, Any]:
    """Return the figures of a report."""
    from tts_train.families.token_lm.decoding.generate import END, LIMIT

    # Over all parts: they are one utterance to the user, who gave one text.
    spoken = [part.spoken for part in parts]
    tokens = sum(len(each.ids) for each in spoken)
    return {
        "parts": len(parts),
        "tokens": tokens,
        "tokens_per_second": round(tokens / max(sum(each.seconds for each in spoken), 1e-9), 2),
        "stopped_by": LIMIT if any(each.stopped_by == LIMIT for each in spoken) else END,
        "errors": {name: sum(each.errors[name] for each in spoken) for name in spoken[0].errors},
    }


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
