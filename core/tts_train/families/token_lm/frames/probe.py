"""What models of frames state of their training: what is drawn is what is taught, by both networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from tts_train.contract.probe import Said
from tts_train.families.token_lm.decoding.options import Sampling
from tts_train.families.token_lm.frames.decoding import FrameDecoding
from tts_train.families.token_lm.probe import TokenProbe

if TYPE_CHECKING:
    from tts_train.families.token_lm.frames.batch import FrameBatch
    from tts_train.families.token_lm.frames.layout import FrameLayout
    from tts_train.families.token_lm.layout import Ids

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

    def _draw(self, hidden: Tensor, matrix: Tensor, step: int) -> Tensor:
        code = super()._draw(hidden, matrix, step)
        if step // self._layout.slots == self._end:
            code = torch.full_like(code, self._layout.end_code)
        self.codes.append(int(code))
        self.scores.append(linear(hidden, matrix)[0].float().log_softmax(-1))
        return code


class FrameProbe(TokenProbe):
    """Measures a module on utterances that its networks draw; a code of the depth network counts as in the loss.

    The loss is the mean over first codes plus the mean over the K - 1 others of each frame: multiplied with the number
    of frames it is the sum of all log-probabilities, those of the depth network divided by K - 1.
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
        """Return how many frames are learnt."""
        return float(len(batch["kept"]))

    @torch.inference_mode()
    def _said(self, frames: int) -> Said:
        layout: Any = self._model.layout
        decoding = ScoredFrames(layout, self._network.lm, self._model.prompt.inference_prompt(self._text), frames)
        ids = torch.tensor([step[0] for step in decoding.tokens()])
        books = torch.arange(len(decoding.codes)) % layout.slots
        share = torch.where(books == 0, 1.0, 1 / (layout.slots - 1))
        scores = torch.stack(decoding.scores) * share[:, None]
        return Said(row=self._row(ids[:-1].numpy()), tokens=torch.tensor(decoding.codes), scores=scores.clone())
