"""What all models of the family state of their training: what is drawn is what is taught, packed and padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from tts_train.contract.probe import NoProbe, Said, SpeechProbe
from tts_train.families.token_lm.data.batch import Document, TokenBatch
from tts_train.families.token_lm.decoding.decoding import Decoding
from tts_train.families.token_lm.decoding.generate import generate
from tts_train.families.token_lm.frames.decoding import FrameDecoding
from tts_train.families.token_lm.model import HELD_TO, Sampling
from tts_train.families.token_lm.network.build import joined
from tts_train.families.token_lm.speaking.sources import open_model

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from tts_train.families.token_lm.frames.batch import FrameBatch
    from tts_train.families.token_lm.frames.layout import FrameLayout
    from tts_train.families.token_lm.layout import Ids, TokenLayout
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork


class ScoredDecoding(Decoding):
    """A :class:`Decoding` of one prompt at temperature 1 that keeps the log-probabilities of each step.

    Args:
        layout: Of its ids.
        lm: In evaluation mode.
        prompt: Ids that end with the start of speech.
        seed: Of what is drawn.
        limit: Most ids to generate.
        softmax: What the training loss sees: ``full``, ``audio`` or ``slot``.
    """

    def __init__(
        self, layout: TokenLayout, lm: LlamaForCausalLM, prompt: Ids, *, seed: int, limit: int, softmax: str
    ) -> None:
        sampling = Sampling(temperature=1, top_p=1, top_k=0, repetition_penalty=1, constrain=HELD_TO[softmax])
        super().__init__(layout, lm, [prompt], seeds=[seed], limits=[limit], sampling=sampling)
        self._softmax = softmax
        self.scores: list[Tensor] = []
        """Log-probability of each id (vocabulary,), a step each, in float32."""

    def _draw(self, hidden: Tensor) -> None:
        ids = self._allowed.ids(self._step)
        logits = self._allowed.logits(hidden, self._lm.lm_head.weight, ids)
        blocked = self._allowed.blocked(self._step)
        if self._softmax == "audio":
            # Its loss sees the added control ids too, which generation does not let through.
            ids = torch.arange(self._layout.added_base, len(self._lm.lm_head.weight))
            logits, blocked = (hidden @ self._lm.lm_head.weight[ids].T).float(), None
        if blocked is not None:
            logits = logits.masked_fill(blocked, -torch.inf)
        # Over the whole vocabulary, so that scores of steps with other allowed ids can be stacked.
        row = torch.full((len(self._lm.lm_head.weight),), -torch.inf)
        row[ids] = logits[0].log_softmax(-1)
        self.scores.append(row)
        super()._draw(hidden)


@torch.inference_mode()
def sample_scored(
    layout: TokenLayout, lm: LlamaForCausalLM, prompt: Ids, lengths: Sequence[int], *, seed: int, softmax: str
) -> list[tuple[Tensor, Tensor]]:
    """Sample one utterance and end it after each of some lengths.

    Args:
        layout: Of its ids.
        lm: In evaluation mode, on the CPU.
        prompt: Ids that end with the start of speech.
        lengths: Ids after which it is ended, if it has not ended by itself.
        seed: Of what is drawn.
        softmax: What the training loss sees.

    Returns:
        For each length the ids (T,), the end of speech last, and the log-probabilities at each draw (T, vocabulary).
    """
    settings: dict[str, Any] = {"seed": seed, "limit": max(lengths) + 1, "softmax": softmax}
    decoding = ScoredDecoding(layout, lm, prompt, **settings)
    drawn = [step[0] for step in decoding.tokens()]
    scores = torch.stack(decoding.scores).clone()
    # It may have ended by itself: every length is then that of the whole utterance.
    whole = drawn.index(layout.end_of_speech) if layout.end_of_speech in drawn else len(drawn) - 1
    made = []
    for length in lengths:
        end = min(length, whole)
        made.append((torch.tensor([*drawn[:end], layout.end_of_speech]), scores[: end + 1]))
    return made


_LETTERS = 12
"""Ids of the made-up text."""
_GREEDY = 24
"""Ids that a run and its export are compared by."""


class TokenProbe(SpeechProbe):
    """Measures a :class:`~tts_train.families.token_lm.module.TokenModule` on utterances that its network draws."""

    module: Any

    @property
    def _model(self) -> TokenLM:
        model: TokenLM = self.module.token_lm
        return model

    @property
    def _network(self) -> TokenNetwork:
        network: TokenNetwork = self.module.network
        return network

    @cached_property
    def _text(self) -> Ids:
        """Ids of a text that the layout allows; what they mean does not matter."""
        layout = self._model.layout
        # Spread over the vocabulary, so that many rows of the embedding get a gradient.
        return np.array([layout.begin_of_text, *(np.arange(_LETTERS) * 7 % layout.text_tokens)], dtype=np.int64)

    def say(self, lengths: Sequence[int]) -> Sequence[Said]:
        """Draw an utterance with the network as it stands, and make the rows that training would have of it."""
        network, layout = self._network, self._model.layout
        prompt = self._model.prompt.inference_prompt(self._text)
        training = network.training
        # Dropout would draw from another distribution than the one that is scored.
        network.eval()
        made = sample_scored(
            layout, network.lm, prompt, [n * layout.slots for n in lengths], seed=0, softmax=network.head.softmax
        )
        network.train(training)
        return [Said(row=self._row(ids[:-1].numpy()), tokens=ids, scores=scores) for ids, scores in made]

    def weight(self, batch: TokenBatch) -> float:
        """Return how many tokens carry a loss."""
        return float(sum(batch["place_sizes"]))

    def batches(self, rows: Sequence[Any]) -> Mapping[str, Any]:
        """Return documents as the data module joins them, packed and padded."""
        layout, made = self._model.layout, dict[str, Any]()
        for form in ("packed", "padded"):
            own = getattr(self.data, "batching", None) == form
            made[form] = self.data.collate(list(rows)) if own else joined(list(rows), layout, packed=form == "packed")
        return made

    def greedy(self, run: Path, export: Path) -> tuple[Sequence[int], Sequence[int]] | NoProbe:
        """Speak with both as ``synth`` does, always taking the likeliest id."""
        if export.suffix == ".gguf" or list(export.glob("*.gguf")):
            return NoProbe(why="llama.cpp speaks with it, and is not here")
        dtype = _type_of(export)
        return tuple(self._likeliest(source, dtype) for source in (run, export))  # type: ignore[return-value]

    def _likeliest(self, source: Path, dtype: torch.dtype) -> tuple[int, ...]:
        model = open_model(self._model, source, device=torch.device("cpu"), dtype=torch.float32)
        for weight in model.lm.parameters():
            # As an export does: adapters are added first, and the sum is rounded once.
            weight.data = weight.data.to(dtype).float()
        prompt = self._model.prompt.inference_prompt(self._text)
        sampling = Sampling(temperature=0, repetition_penalty=1, constrain=HELD_TO[model.softmax])
        layout = self._model.layout
        most = max(_GREEDY, 2 * layout.slots)
        (said,) = generate(layout, model.lm, [prompt], seeds=[0], max_new_tokens=most, sampling=sampling)
        return said.ids

    def _row(self, said: Ids) -> Document:
        """Return the row that a backend's own format makes, of which what was drawn and its end are learnt."""
        row = self._model.prompt.speech_row(self._text, said)
        learnt = np.arange(len(row.input_ids)) <= row.prompt + len(said)
        return Document("said", row.input_ids, learn_from=row.prompt, learnt=learnt)


def _type_of(export: Path) -> torch.dtype:
    """Return the type of an export's weights; adapters are float32."""
    from safetensors import safe_open

    files = sorted(export.glob("*.safetensors"))
    with safe_open(str(files[0]), framework="pt") as weights:
        halves = {weights.get_slice(name).get_dtype() for name in weights.keys()} & {"BF16", "F16"}  # noqa: SIM118
    return {"BF16": torch.bfloat16, "F16": torch.float16}[halves.pop()] if halves else torch.float32


_AS_IT_IS = Sampling(temperature=1, top_p=1, top_k=0, repetition_penalty=1)


class ScoredFrames(FrameDecoding):
    """A decoding of one prompt that is ended after some frames and keeps the log-probabilities of each code.

    Args:
        layout: Of its ids.
        lm: In evaluation mode.
        prompt: Ids of the prompt.
        frames: After how many it is ended.
    """

    def __init__(self, layout: FrameLayout, lm: Any, prompt: Ids, frames: int) -> None:  # noqa: ANN401
        most = (frames + 1) * layout.slots
        super().__init__(layout, lm, [prompt], seeds=[0], limits=[most], sampling=_AS_IT_IS)
        self._end = frames
        self.codes: list[int] = []
        """Every code, that of the frame that ends it included."""
        self.scores: list[Tensor] = []
        """Log-probabilities (V,) at each of them, in float32."""

    def _draw_first(self, hidden: Tensor, number: int) -> Tensor:
        code = super()._draw_first(hidden, number)
        if number == self._end:
            # Ended by force: a network with random weights would not do so by itself.
            code = torch.full_like(code, self._layout.end_code)
        self._note(hidden, self._lm.lm_head.weight, code)
        return code

    def _draw(self, hidden: Tensor, matrix: Tensor, step: int) -> Tensor:
        code = super()._draw(hidden, matrix, step)
        if self._layout.end_is_frame and step // self._layout.slots == self._end:
            code = torch.full_like(code, self._layout.end_code)
        self._note(hidden, matrix, code)
        return code

    def _note(self, hidden: Tensor, matrix: Tensor, code: Tensor) -> None:
        """Keep a code and its log-probabilities over all rows of the matrix, which is what training sees."""
        self.codes.append(int(code))
        self.scores.append(linear(hidden, matrix)[0].float().log_softmax(-1))


class FrameProbe(TokenProbe):
    """Measures a module on utterances that its networks draw; a code of the depth network counts as in the loss.

    The loss is the mean over first codes plus the weighed mean over the K - 1 others of each frame: multiplied with the
    number of first codes it is the sum of all log-probabilities, those of the depth network weighed and divided by
    K - 1, but for an end that has no such codes and is no part of their mean.
    """

    def say(self, lengths: Sequence[int]) -> Sequence[Said]:
        """Draw an utterance with the networks as they stand, and make the rows that training would have of it."""
        network = self._network
        training = network.training
        network.eval()
        made = [self._said(length) for length in lengths]
        network.train(training)
        return made

    def weight(self, batch: FrameBatch) -> float:  # type: ignore[override]
        """Return how many first codes are learnt."""
        return float(len(batch["kept"]))

    def total(self, batch: FrameBatch) -> Tensor:
        """Return the sum of the utterances' losses, with a gradient."""
        total, layout = super().total(batch), self._layout
        first, frames = len(batch["kept"]), len(batch["learnt"])
        if first == frames:
            return total
        # Frames are fewer than first codes by the ends: their mean is weighed by what it is a mean of.
        depth: Any = self._network(batch).depth
        part: Tensor = depth.loss_sum * layout.depth_share / (layout.slots - 1)
        return total + part * (1 - first / frames)

    def shares(self, books: Tensor) -> Tensor:
        """Return how much codes of these codebooks (T,) count in the loss."""
        # It is a weighed mean over K - 1 codes a frame, so each counts as that part of one.
        return torch.where(books == 0, 1.0, self._layout.depth_share / (self._layout.slots - 1))

    @property
    def _layout(self) -> FrameLayout:
        layout: FrameLayout = self._model.layout  # type: ignore[assignment]
        return layout

    @torch.inference_mode()
    def _said(self, frames: int) -> Said:
        layout = self._layout
        decoding = ScoredFrames(layout, self._network.lm, self._model.prompt.inference_prompt(self._text), frames)
        ids = torch.tensor([step[0] for step in decoding.tokens()])
        codes = frames * layout.slots + (layout.slots if layout.end_is_frame else 1)
        rows = self._network.lm.lm_head.weight.shape[0]
        # The matrices may have different numbers of rows, and are stacked.
        scores = torch.stack([pad(each, (0, rows - len(each)), value=-torch.inf) for each in decoding.scores[:codes]])
        books = torch.arange(codes) % layout.slots
        tokens = torch.tensor(decoding.codes[:codes])
        scores = (scores * self.shares(books)[:, None]).clone()
        return Said(row=self._row(ids[:-1].numpy()), tokens=tokens, scores=scores)
