"""Does what was written say the same as what was trained? Compared by weights and by logits on a real row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tts_train.errors import TTSTrainError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import FramesRead, Ids
    from tts_train.families.token_lm.model import TokenLM

TOLERANCE = 1e-3
"""Largest difference of two sets of logits that count as equal in float32, relative to the largest logit. Rounding
leaves 2e-6 in the tiny network; an adapter that is missing or merged into the wrong matrix shows far above."""

_TEXT = "The quick brown fox jumps over the lazy dog."
_FRAMES = 4


def probe_row(token_lm: TokenLM, tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Return a training row with text and four frames of sound, on which networks are compared."""
    layout = token_lm.layout
    places = np.arange(_FRAMES * layout.slots)
    # Any codes will do; these are the same everywhere, without a generator.
    codes = (37 * places + 11 * places**2) % layout.codebook_size
    audio = layout.audio_base + layout.codebook_size * (places % layout.slots) + codes
    return token_lm.prompt.speech_row(token_lm.prompt.encode_text(tokenizer, _TEXT), audio).input_ids


@torch.inference_mode()
def logits_of(lm: nn.Module, row: Ids) -> Tensor:
    """Return a network's logits (T, vocabulary) for a row, in float32 on the CPU."""
    device = next(lm.parameters()).device
    logits: Tensor = lm(input_ids=torch.as_tensor(row, device=device)[None], use_cache=False).logits[0]
    return logits.float().cpu()


def compare_logits(expected: Tensor, found: Tensor) -> dict[str, float]:
    """Return the largest difference, the same relative to the largest logit, and the divergence in nats a position."""
    difference = float((expected - found).abs().max())
    wanted, given = expected.log_softmax(dim=-1), found.log_softmax(dim=-1)
    divergence = float((wanted.exp() * (wanted - given)).sum(dim=-1).mean())
    return {
        "max_difference": difference,
        "max_relative_difference": difference / max(float(expected.abs().max()), 1e-9),
        "divergence_nats": max(divergence, 0.0),
    }


def require_equal_logits(expected: Tensor, found: Tensor, what: str, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Return the comparison of two sets of logits.

    Raises:
        TTSTrainError: if they differ by more than ``tolerance`` or are not finite.
    """
    measured = compare_logits(expected, found)
    # Written so that NaN fails.
    if not measured["max_relative_difference"] <= tolerance:
        raise TTSTrainError(
            f"{what}: the logits differ by {measured['max_relative_difference']:.3g} of the largest one, and up to "
            f"{tolerance:g} is rounding. Nothing was written. This is a fault of the exporter or of a library's "
            "version; please report it with the output of 'tts-train doctor'."
        )
    return measured


def require_equal_losses(expected: Tensor, found: Tensor, what: str) -> dict[str, float]:
    """Return the largest difference of two sets of losses (n,).

    Raises:
        TTSTrainError: if it is more than :data:`TOLERANCE` of the largest loss, or they are not finite.
    """
    difference = float((expected - found).abs().max())
    if not difference <= TOLERANCE * float(expected.abs().max()):
        raise TTSTrainError(
            f"{what}: losses differ by up to {difference:.3g}. Nothing was written. This is a fault of the exporter or "
            "of a library's version; please report it with the output of 'tts-train doctor'."
        )
    return {"max_difference": difference}


def require_equal_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> int:
    """Return how many tensors were compared.

    Raises:
        TTSTrainError: naming the first that is missing, too many, or not equal bit for bit.
    """
    different = sorted(set(expected) ^ set(found))
    # Bit for bit: writing and reading round nothing.
    different += [name for name, tensor in expected.items() if name in found and not torch.equal(tensor, found[name])]
    if different:
        raise TTSTrainError(
            f"{what}: {len(different)} tensors are not what was written, the first being {different[0]}. Nothing was "
            "left behind. Is the disk sound? Try another --out."
        )
    return len(expected)


def greedy_codes(token_lm: TokenLM, lm: Any, words: PreTrainedTokenizerBase) -> FramesRead:  # noqa: ANN401
    """Return the few frames that a network of ours says without chance."""
    from tts_train.families.token_lm.decoding.generate import generate
    from tts_train.families.token_lm.model import Sampling

    layout, greedy = token_lm.layout, Sampling(temperature=0, repetition_penalty=1)
    prompts, most = [_prompt(token_lm, words)], _FRAMES * layout.slots
    (said,) = generate(layout, lm, prompts, seeds=[0], max_new_tokens=most, sampling=greedy)
    return said.content


def require_same_codes(
    token_lm: TokenLM,
    said: FramesRead,
    released: Any,  # noqa: ANN401
    words: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """Let the released model's own class say the frames of :func:`greedy_codes`, and return how many were compared.

    Raises:
        TTSTrainError: if it says other codes.
    """
    options: dict[str, Any] = {"max_new_tokens": max(len(said.codes[0]), 1)}
    # transformers warns of a temperature that greedy decoding has no use for, unless it is 1.
    greedy = {"do_sample": False, "temperature": 1.0}
    options |= {f"{network}{name}": value for network in ("", "depth_decoder_") for name, value in greedy.items()}
    heard = released.generate(input_ids=torch.from_numpy(_prompt(token_lm, words))[None], **options)[0]
    expected = np.stack(said.codes, axis=1)
    # It ends where our network does, with a frame of its own that is no sound.
    if not np.array_equal(heard[: len(expected)].numpy(), expected):
        raise TTSTrainError(
            "Reading the export back: its own class says other codes than the network that was written. This is a "
            "fault of the exporter or of a library's version; please report it with the output of 'tts-train doctor'."
        )
    return {"greedy_frames": said.frames}


def _prompt(token_lm: TokenLM, words: PreTrainedTokenizerBase) -> Ids:
    return token_lm.prompt.inference_prompt(token_lm.prompt.encode_text(words, "Hello."))
