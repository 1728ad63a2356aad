"""Speak: semantic codes drawn one by one after a text and a spoken prompt, with keys and values kept.

Several utterances are spoken side by side. Chance is a function of an utterance's seed, the step and the code, so what
is drawn does not depend on what is spoken beside it. A device is asked every few steps whether all have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.contract import ConfigError
from tts_train.nn import exponential_noise, runs_on
from tts_train_gpt_sovits.networks.gpt.network import Attend, GptNetwork
from tts_train_gpt_sovits.signal.frames import additive_mask, attend
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH

MAX_CODES = 1500
"""Upstream's limit, whatever is asked for: a minute of speech."""

_FIRST_STEPS = 11
"""Steps in which speech cannot end."""
_ASKED_EVERY = 8
"""Steps after which a device is asked whether all speech has ended; what was drawn after an end is dropped."""
_DRAWN_AT_ONCE = 16
"""Steps whose chance is drawn together."""
_WHOLE = 2**40
"""What probabilities are multiplied by to be added as whole numbers."""


@dataclass(frozen=True)
class SamplingOptions:
    """How the next code is drawn; the defaults are those of upstream's interface."""

    top_k: int = 15
    """Likeliest codes to draw from (those that tie with the last stay); 0 draws from all."""
    top_p: float = 1.0
    """Draw from the likeliest codes that have this much probability together, before ``temperature``."""
    temperature: float = 1.0
    """Below 1 likely codes become likelier."""
    repetition_penalty: float = 1.35
    """Factor by which a code that was already said, the prompt's included, becomes unlikelier; 1 for none."""
    max_codes: int = MAX_CODES
    """Codes after which speech is cut off, 25 a second."""

    def __post_init__(self) -> None:
        rules = {
            "top_k": (self.top_k >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "temperature": (self.temperature >= 0, "0 or more"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "max_codes": (1 <= self.max_codes <= MAX_CODES, f"from 1 to {MAX_CODES}"),
        }
        for field, (good, allowed) in rules.items():
            if not good:
                raise ConfigError(f"{field} must be {allowed}, and {getattr(self, field)!r} was given.")


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What was said."""

    codes: Tensor
    """The new codes (T,), without the prompt and the end token."""
    ended: bool
    """Whether the network ended it; False where it was cut off."""


@dataclass(frozen=True, kw_only=True)
class GptLine:
    """One utterance to speak."""

    phonemes: Tensor
    """The prompt's and the new text's (X,)."""
    prompt: Tensor
    """The prompt's codes (P,); may be empty."""
    bert: Tensor | None = None
    """Features (X, 1024); zeros when None."""
    seed: int = 0
    """What is drawn follows from it, whatever is spoken beside."""
    max_codes: int | None = None
    """Codes after which this one is cut off, at most those of the options; these when None."""


def generate(
    network: GptNetwork,
    phonemes: Tensor,
    prompt: Tensor,
    *,
    bert: Tensor | None = None,
    options: SamplingOptions = SamplingOptions(),
    generator: torch.Generator | None = None,
) -> Speech:
    """Continue the codes of a prompt until the text is said.

    Args:
        network: In evaluation mode.
        phonemes: The prompt's and the new text's (X,).
        prompt: The prompt's codes (P,); may be empty.
        bert: Features (X, 1024); zeros when None.
        options: How codes are drawn.
        generator: Where the seed is drawn from; torch's own when None.
    """
    where = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=where))
    (speech,) = generate_lines(
        network, [GptLine(phonemes=phonemes, prompt=prompt, bert=bert, seed=seed)], options=options
    )
    return speech


@torch.inference_mode()
def generate_lines(
    network: GptNetwork,
    lines: Sequence[GptLine],
    *,
    options: SamplingOptions = SamplingOptions(),
    scores: list[Tensor] | None = None,
) -> list[Speech]:
    """Speak several utterances side by side, each until its text is said.

    Args:
        network: In evaluation mode.
        lines: What to speak; at least one.
        options: How codes are drawn, for all.
        scores: Filled with the network's log-probabilities (lines, codes) of each step, before ``options``.
    """
    device, end = network.head.weight.device, network.config.end
    limits = [min(options.max_codes, line.max_codes or options.max_codes) for line in lines]
    # A line that has ended is drawn on, and dropped, until all have: taking it out of the batch would make the host
    # wait in each step.
    most, prompts = max(limits), [len(line.prompt) for line in lines]
    longest = max(*(len(line.phonemes) for line in lines), *(count + most for count in prompts))
    positions = torch.arange(longest, device=device)
    cache = Cache(network, [len(line.phonemes) + count for line, count in zip(lines, prompts, strict=True)], most)
    states = torch.cat([_begin(network, cache, line, row, positions) for row, line in enumerate(lines)])
    # The prompt's codes count as said: upstream penalises repetition of them, too.
    said = torch.zeros(len(lines), network.config.codes, dtype=torch.bool, device=device)
    for row, line in enumerate(lines):
        said[row, _moved(line.prompt, device)] = True
    seeds, ids = _on(device, [line.seed for line in lines])[:, None], torch.arange(network.config.codes, device=device)
    codes = torch.full((len(lines), most), end, device=device)
    ended_at = torch.full((len(lines),), most, device=device)
    firsts, cut = _on(device, prompts), _on(device, limits)
    draws = torch.arange(_DRAWN_AT_ONCE, device=device)[:, None, None]
    each = 1 if runs_on(device) == "cpu" else _ASKED_EVERY
    for step in range(most):
        logits = network.head(states).to(torch.promote_types(states.dtype, torch.float32))
        if scores is not None:
            scores.append(logits.log_softmax(-1))
        logits = _penalised(logits, said, options.repetition_penalty)
        # Upstream cuts the end from the first eleven steps, so that 0.4 s at least are said (AR/models/t2s_model.py).
        if step < _FIRST_STEPS:
            logits[:, end] = -torch.inf
        if step % _DRAWN_AT_ONCE == 0:
            times = exponential_noise(seeds, draws + step, ids)
        code = (probabilities(logits, options) / times[step % _DRAWN_AT_ONCE]).argmax(-1)  # an exponential race
        # Upstream stops as well where the end is likeliest and something else was drawn.
        over = (code == end) | (logits.argmax(-1) == end)
        ended_at = torch.where(over, ended_at.clamp(max=step), ended_at)
        codes[:, step] = code
        said.scatter_(1, code[:, None], True)
        if (step + 1) % each == 0 and bool(((ended_at <= step) | (cut <= step + 1)).all()):
            break
        if step + 1 < most:
            embedded = network.embed_codes(code, firsts + step, longest)
            states = network.run_layers(embedded, cache.attend_next())
    ends = zip(ended_at.tolist(), limits, strict=True)
    return [Speech(codes=codes[row, : min(at, limit)], ended=at < limit) for row, (at, limit) in enumerate(ends)]


def probabilities(logits: Tensor, options: SamplingOptions) -> Tensor:
    """Return the probabilities that codes are drawn from, of logits (..., V) that repetition has already changed."""
    if options.top_p < 1:
        ordered, order = logits.sort(descending=True)
        over = _running_sums(ordered.softmax(-1)) > options.top_p
        # The likeliest stays, however likely it is.
        over[..., 0] = False
        logits = logits.masked_fill(torch.zeros_like(over).scatter(-1, order, over), -torch.inf)
    # In upstream's order: top_p before the temperature, top_k after it. Another order draws other codes.
    logits = logits / max(options.temperature, 1e-5)
    if 0 < options.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(options.top_k).values[..., -1:], -torch.inf)
    return logits.softmax(-1)


def _running_sums(chances: Tensor) -> Tensor:
    """Return cumulative sums over the last axis; on a GPU of whole numbers, whose sums do not depend on the order."""
    if runs_on(chances.device) == "cpu":
        return chances.cumsum(-1)
    return (chances * _WHOLE).long().cumsum(-1) / _WHOLE


def _begin(network: GptNetwork, cache: Cache, line: GptLine, row: int, positions: Tensor) -> Tensor:
    """Put a line's text and prompt into a row of the cache, and return the last state (1, width)."""
    texts, device = len(line.phonemes), positions.device
    bert = torch.zeros(texts, BERT_WIDTH, device=device) if line.bert is None else _moved(line.bert, device)
    text = network.embed_text(_moved(line.phonemes, device), bert, positions[:texts], len(positions))
    prompt = network.embed_codes(_moved(line.prompt, device), positions[: len(line.prompt)], len(positions))
    return network.run_layers(torch.cat([text, prompt]), cache.attend_prefix(row, texts))[-1:]


def _on(device: torch.device, numbers: Sequence[int]) -> Tensor:
    return _moved(torch.tensor(numbers), device)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor to a device without waiting for what that still has to do."""
    return tensor.to(device, non_blocking=True)


def _penalised(logits: Tensor, said: Tensor, penalty: float) -> Tensor:
    if penalty == 1:
        return logits
    return torch.where(said, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


class Cache:
    """Keys and values of utterances side by side.

    Args:
        network: Whose they are.
        starts: Tokens of each utterance's text and prompt.
        room: Codes that may follow.
    """

    def __init__(self, network: GptNetwork, starts: Sequence[int], room: int) -> None:
        config, weight = network.config, network.head.weight
        shape = (config.layers, 2, len(starts), config.heads, max(starts) + room, config.width // config.heads)
        dtype = weight.dtype
        if torch.is_autocast_enabled(weight.device.type):
            dtype = torch.get_autocast_dtype(weight.device.type)
        # Room for all that may come, at once: growing it step by step would copy the whole cache each time.
        self._kept = torch.empty(shape, dtype=dtype, device=weight.device)
        if len(set(starts)) > 1:
            self._kept.zero_()  # what a shorter utterance's mask hides must be numbers
        self._starts = list(starts)
        self._places = torch.tensor(self._starts).to(weight.device, non_blocking=True)
        self._rows = torch.arange(len(starts), device=weight.device)
        self._steps = 0

    def attend_prefix(self, row: int, texts: int) -> Attend:
        """Return attention of the text, which sees itself, and the prompt, which sees the text and what is before."""

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            kept = self._kept[layer, :, row, :, : len(query)]
            kept[0], kept[1] = key.transpose(0, 1), value.transpose(0, 1)
            queries, (keys, values) = query.transpose(0, 1)[None], kept[:, None].unbind()
            text = F.scaled_dot_product_attention(queries[:, :, :texts], keys[:, :, :texts], values[:, :, :texts])
            causal = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            return torch.cat([text, causal[:, :, texts:]], dim=2)[0].transpose(0, 1).flatten(1)

        return attention

    def attend_next(self) -> Attend:
        """Return attention of one more token of each utterance, which sees all before it."""
        filled = max(self._starts) + self._steps + 1
        places, self._steps = self._places + self._steps, self._steps + 1
        alike = len(set(self._starts)) == 1
        seen = None if alike else torch.arange(filled, device=places.device) <= places[:, None]
        mask: Tensor | None = None

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            nonlocal mask
            kept = self._kept[layer]
            # Lines of one length need no mask.
            if alike:
                kept[0, :, :, filled - 1], kept[1, :, :, filled - 1] = key, value
            else:
                kept[0, self._rows, :, places], kept[1, self._rows, :, places] = key, value
            keys, values = kept[:, :, :, :filled].unbind()
            queries = query[:, :, None]
            if seen is None:
                return F.scaled_dot_product_attention(queries, keys, values).flatten(1)
            mask = additive_mask(seen[:, None, None], query) if mask is None else mask
            return attend(queries, keys, values, mask).flatten(1)

        return attention
