"""From prompts to audio ids: sampling with one random stream a prompt, a growing cache, and a count of what went wrong.

The loop is ours because ``transformers`` draws from the global generator: there, the sound of a text would depend on
what else is in its batch and on every draw before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from tts_train.errors import ConfigError, NumericError
from tts_train_orpheus import layout
from tts_train_orpheus.layout import Generated, Ids, read_generated

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

Constrain: TypeAlias = Literal["none", "audio", "slots"]
"""``none`` lets every id through; ``audio`` the added ones; ``slots`` the 4,096 codes of the slot that is due, and the
end of speech between frames."""

END, LIMIT = "end of speech", "max_new_tokens"
"""Why a generation stopped."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next id is drawn; the defaults are those that Orpheus is commonly spoken with."""

    temperature: float = 0.6
    """Below 1 sharpens the distribution; 0 takes the most likely id, which tends to loop."""
    top_p: float = 0.95
    """Draw from the smallest set of ids that has this much probability, above 0 to 1."""
    top_k: int = 0
    """Draw from this many most likely ids at most; 0 sets no limit."""
    repetition_penalty: float = 1.1
    """Makes ids that were used before, in prompt or output, less likely; 1 does nothing. Orpheus needs 1.1 or more."""
    constrain: Constrain = "none"
    """Which ids may come."""

    def __post_init__(self) -> None:
        faults = [
            f"--temperature must be 0 or more, not {self.temperature}" if not self.temperature >= 0 else "",
            f"--top_p must be above 0 and at most 1, not {self.top_p}" if not 0 < self.top_p <= 1 else "",
            f"--top_k must be 0 or more, not {self.top_k}" if self.top_k < 0 else "",
            f"--repetition_penalty must be above 0, not {self.repetition_penalty}"
            if not self.repetition_penalty > 0
            else "",
            f"--constrain is none, audio or slots, not {self.constrain!r}"
            if self.constrain not in ("none", "audio", "slots")
            else "",
        ]
        if any(faults):
            raise ConfigError("; ".join(fault for fault in faults if fault) + ".")


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What came after one prompt."""

    ids: tuple[int, ...]
    """Every id generated, the end of speech included."""
    content: Generated
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
    lm: LlamaForCausalLM,
    prompts: Sequence[Ids],
    *,
    seeds: Sequence[int],
    max_new_tokens: int = 1200,
    sampling: Sampling = Sampling(),
) -> list[Spoken]:
    """Continue each prompt until its end of speech.

    Args:
        lm: In evaluation mode, with an attention that takes a cache and padding (``sdpa`` or ``eager``).
        prompts: Ids that end with START_OF_SPEECH; different lengths are padded on the left.
        seeds: One for each prompt. Each has its own stream, so that a text sounds the same alone and in a batch.
        max_new_tokens: Most ids to generate for each prompt.
        sampling: How ids are drawn.

    Raises:
        ConfigError: if there are not as many seeds as prompts, or the model has no room for so many ids.
        NumericError: if the network gives values that are not finite.
    """
    started = time.perf_counter()
    outputs: list[list[int]] = [[] for _ in prompts]
    seconds = [0.0] * len(prompts)
    for drawn in _steps(lm, prompts, seeds=seeds, max_new_tokens=max_new_tokens, sampling=sampling):
        for row, token in drawn.items():
            outputs[row].append(token)
            seconds[row] = time.perf_counter() - started
    return [spoken(ids, took) for ids, took in zip(outputs, seconds, strict=True)]


def stream(
    lm: LlamaForCausalLM,
    prompt: Ids,
    *,
    seed: int,
    max_new_tokens: int = 1200,
    sampling: Sampling = Sampling(),
) -> Iterator[int]:
    """Yield the ids that :func:`generate` gives for one prompt, each as soon as it is there."""
    for drawn in _steps(lm, [prompt], seeds=[seed], max_new_tokens=max_new_tokens, sampling=sampling):
        yield drawn[0]


def spoken(ids: Sequence[int], seconds: float) -> Spoken:
    """Read generated ids; ``seconds`` is how long they took."""
    content = read_generated(ids)
    return Spoken(ids=tuple(ids), content=content, stopped_by=END if content.ended else LIMIT, seconds=seconds)


@torch.inference_mode()
def _steps(
    lm: LlamaForCausalLM, prompts: Sequence[Ids], *, seeds: Sequence[int], max_new_tokens: int, sampling: Sampling
) -> Iterator[dict[int, int]]:
    """Yield, for each step, the id of every row that has not ended before."""
    _check(lm, prompts, seeds, max_new_tokens)
    state = _State(lm, prompts, seeds)
    open_rows = set(range(len(prompts)))
    for step in range(max_new_tokens):
        tokens = state.draw(state.forward(), sampling, step)
        yield {row: tokens[row] for row in sorted(open_rows)}
        open_rows -= {row for row in open_rows if tokens[row] == layout.END_OF_SPEECH}
        if not open_rows:
            return


class _State:
    """The batch between two steps: its cache, what each row has used, and where its random stream stands."""

    def __init__(self, lm: LlamaForCausalLM, prompts: Sequence[Ids], seeds: Sequence[int]) -> None:
        from transformers import DynamicCache

        self.lm = lm
        device = lm.lm_head.weight.device
        longest = max(len(prompt) for prompt in prompts)
        self.next = torch.full((len(prompts), longest), layout.PAD, device=device)
        mask = torch.zeros_like(self.next)
        # Made for the whole vocabulary, so that the penalty needs no bookkeeping of ids.
        self.used = torch.zeros(len(prompts), lm.config.vocab_size, dtype=torch.bool, device=device)
        for row, prompt in enumerate(prompts):
            ids = torch.as_tensor(prompt, device=device)
            self.next[row, longest - len(prompt) :] = ids
            mask[row, longest - len(prompt) :] = 1
            self.used[row, ids] = True
        # Without padding the attention needs no mask, and takes its fast path.
        self.mask = None if bool(mask.all()) else mask
        self.positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        # A static cache has a fixed size and its own failures; a growing one is exact and plain.
        self.cache = DynamicCache()
        # Drawn on the CPU: the same numbers whatever device the network is on.
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def forward(self) -> Tensor:
        """Return the next id's logits (B, vocabulary) in float32."""
        output = self.lm(
            input_ids=self.next,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def draw(self, logits: Tensor, sampling: Sampling, step: int) -> list[int]:
        """Draw one id for each row and make it the next input."""
        if not bool(torch.isfinite(logits).all()):
            raise NumericError("The network gives values that are not finite; the weights or their type are broken.")
        logits = penalise(logits, self.used, sampling.repetition_penalty)
        allowed = allowed_ids(sampling.constrain, step, logits.device)
        logits = logits if allowed is None else logits[:, allowed]
        noise = [torch.empty(logits.shape[-1]).exponential_(generator=stream) for stream in self.streams]
        chosen = sample(logits, sampling, torch.stack(noise).to(logits.device))
        tokens = chosen if allowed is None else allowed[chosen]
        self.used[torch.arange(len(tokens), device=tokens.device), tokens] = True
        self.next, self.positions = tokens[:, None], self.positions[:, -1:] + 1
        if self.mask is not None:
            self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        return [int(token) for token in tokens.tolist()]


def penalise(logits: Tensor, used: Tensor, penalty: float) -> Tensor:
    """Make the ids in ``used`` (B, vocabulary) less likely by ``penalty`` (Keskar et al. 2019, arXiv 1909.05858)."""
    if penalty == 1:
        return logits
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(used, lowered, logits)


def allowed_ids(constrain: Constrain, step: int, device: torch.device) -> Tensor | None:
    """Return the ids that may come at a step after START_OF_SPEECH, or None for all."""
    if constrain == "none":
        return None
    if constrain == "audio":
        sound = torch.arange(layout.AUDIO_BASE, layout.AUDIO_END, device=device)
        return torch.cat([torch.tensor([layout.END_OF_SPEECH], device=device), sound])
    slot = step % layout.SLOTS
    start = layout.AUDIO_BASE + slot * layout.CODEBOOK_SIZE
    codes = torch.arange(start, start + layout.CODEBOOK_SIZE, device=device)
    if slot:
        return codes
    return torch.cat([torch.tensor([layout.END_OF_SPEECH], device=device), codes])


def sample(logits: Tensor, sampling: Sampling, noise: Tensor) -> Tensor:
    """Draw a column for each row of ``logits`` (B, n), given unit exponential ``noise`` of the same shape.

    The largest of p / noise is a draw from p (Gumbel's trick). As each id has its own noise, rounding changes a draw
    only between near ties, where inverting the distribution would shift every id behind it. The nucleus is the
    smallest set of most likely ids that reaches ``top_p`` (Holtzman et al. 2020, arXiv 1904.09751).
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits / sampling.temperature
    limit = min(sampling.top_k or scaled.shape[-1], scaled.shape[-1])
    values, columns = scaled.sort(dim=-1, descending=True) if limit == scaled.shape[-1] else scaled.topk(limit, dim=-1)
    # An id stays if those before it have less than top_p; the first always does.
    before = values.softmax(dim=-1).cumsum(dim=-1).roll(1, dims=-1)
    before[:, 0] = 0
    race = values - noise.gather(-1, columns).log()
    winner = race.masked_fill(before >= sampling.top_p, -torch.inf).argmax(dim=-1, keepdim=True)
    return columns.gather(-1, winner)[:, 0]


def _check(lm: LlamaForCausalLM, prompts: Sequence[Ids], seeds: Sequence[int], max_new_tokens: int) -> None:
    if len(seeds) != len(prompts) or not prompts:
        raise ConfigError(f"generate needs one seed for each prompt, not {len(seeds)} for {len(prompts)}.")
    if max_new_tokens < 1:
        raise ConfigError(f"--max_new_tokens must be at least 1, and {max_new_tokens} was given.")
    room, longest = lm.config.max_position_embeddings, max(len(prompt) for prompt in prompts)
    if longest + max_new_tokens > room:
        raise ConfigError(
            f"The prompt has {longest} ids and --max_new_tokens is {max_new_tokens}, and the model has room for {room} "
            f"in all. Give --max_new_tokens {max(room - longest, 1)} or less, or a shorter text."
        )
