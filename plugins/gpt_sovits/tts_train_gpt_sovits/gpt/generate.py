"""Speak: semantic codes drawn one by one after a text and a spoken prompt, with keys and values kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.gpt.network import Attend, GptNetwork
from tts_train_gpt_sovits.gpt.packing import BERT_WIDTH

MAX_CODES = 1500
"""Upstream's limit, whatever is asked for: a minute of speech."""

_FIRST_STEPS = 11
"""Steps in which speech cannot end."""


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
    max_codes: int = 1351
    """Codes after which speech is cut off; upstream's interface does after 54 s, 25 codes a second."""

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


@torch.inference_mode()
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
        generator: Source of chance, on the network's device; torch's own when None.
    """
    device = network.head.weight.device
    positions = torch.arange(max(len(phonemes), len(prompt) + options.max_codes), device=device)
    features = torch.zeros(len(phonemes), BERT_WIDTH, device=device) if bert is None else bert.to(device)
    longest = len(positions)
    text = network.embed_text(phonemes.to(device), features, positions[: len(phonemes)], longest)
    said = network.embed_codes(prompt.to(device), positions[: len(prompt)], longest)
    cache = _Cache(network, len(phonemes) + len(prompt) + options.max_codes)
    state = network.run_layers(torch.cat([text, said]), cache.attend_prefix(len(phonemes)))[-1:]
    codes, end, count = torch.cat([prompt.to(device), positions.new_empty(options.max_codes)]), network.config.end, 0
    while count < options.max_codes:
        logits = network.head(state)[0].to(torch.promote_types(state.dtype, torch.float32))
        logits = _penalised(logits, codes[: len(prompt) + count], options.repetition_penalty)
        if count < _FIRST_STEPS:
            logits[end] = -torch.inf
        code = _draw(logits, options, generator)
        if bool((code == end) | (logits.argmax() == end)):
            return Speech(codes=codes[len(prompt) : len(prompt) + count], ended=True)
        place = len(prompt) + count
        codes[place] = code
        count += 1
        if count < options.max_codes:
            state = network.run_layers(
                network.embed_codes(code[None], positions[place : place + 1], longest), cache.attend_next()
            )
    return Speech(codes=codes[len(prompt) :], ended=False)


def probabilities(logits: Tensor, options: SamplingOptions) -> Tensor:
    """Return the probabilities that a code is drawn from, of logits (V,) that repetition has already changed."""
    if options.top_p < 1:
        ordered, order = logits.sort(descending=True)
        over = ordered.softmax(-1).cumsum(-1) > options.top_p
        over[0] = False
        logits = logits.masked_fill(torch.zeros_like(over).scatter(0, order, over), -torch.inf)
    logits = logits / max(options.temperature, 1e-5)
    if 0 < options.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(options.top_k).values[-1], -torch.inf)
    return logits.softmax(-1)


class _Cache:
    """Keys and values of every layer, in room for all tokens to come."""

    def __init__(self, network: GptNetwork, room: int) -> None:
        config, weight = network.config, network.head.weight
        shape = (config.layers, 2, 1, config.heads, room, config.width // config.heads)
        dtype = weight.dtype
        if torch.is_autocast_enabled(weight.device.type):
            dtype = torch.get_autocast_dtype(weight.device.type)
        self._kept = torch.empty(shape, dtype=dtype, device=weight.device)
        self._filled = 0

    def attend_prefix(self, texts: int) -> Attend:
        """Return attention of the text, which sees itself, and the prompt, which sees the text and what is before."""

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            self._filled = len(query)
            keys, values = self._keep(layer, 0, key, value)
            queries = query.transpose(0, 1)[None]
            text = scaled_dot_product_attention(queries[:, :, :texts], keys[:, :, :texts], values[:, :, :texts])
            causal = scaled_dot_product_attention(queries, keys, values, is_causal=True)
            return torch.cat([text, causal[:, :, texts:]], dim=2)[0].transpose(0, 1).flatten(1)

        return attend

    def attend_next(self) -> Attend:
        """Return attention of one more token, which sees all before it."""
        place = self._filled
        self._filled += 1

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self._keep(layer, place, key, value)
            done = scaled_dot_product_attention(query.transpose(0, 1)[None], keys, values)
            return done[0].transpose(0, 1).flatten(1)

        return attend

    def _keep(self, layer: int, place: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        kept = self._kept[layer, :, 0]
        kept[0, :, place : self._filled] = key.transpose(0, 1)
        kept[1, :, place : self._filled] = value.transpose(0, 1)
        keys, values = kept[:, None, :, : self._filled].unbind()
        return keys, values


def _penalised(logits: Tensor, said: Tensor, penalty: float) -> Tensor:
    if penalty == 1 or not len(said):
        return logits
    scores = logits[said]
    return logits.scatter(0, said, torch.where(scores < 0, scores * penalty, scores / penalty))


def _draw(logits: Tensor, options: SamplingOptions, generator: torch.Generator | None) -> Tensor:
    """Draw by an exponential race: the code whose probability divided by its time is largest."""
    chances = probabilities(logits, options)
    times = torch.empty_like(chances).exponential_(1, generator=generator)
    return (chances / times).argmax()
