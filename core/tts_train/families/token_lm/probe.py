"""What all models of the family state of their training: what is drawn is what is taught, packed and padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tts_train.contract.probe import NoProbe, Said, SpeechProbe
from tts_train.families.token_lm.data.batch import Document, TokenBatch
from tts_train.families.token_lm.decoding.generate import generate
from tts_train.families.token_lm.decoding.options import HELD_TO, Sampling
from tts_train.families.token_lm.decoding.scored import sample_scored
from tts_train.families.token_lm.network.build import joined
from tts_train.families.token_lm.speaking.sources import open_model

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork

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
        return np.array([layout.begin_of_text, *(np.arange(_LETTERS) * 7 % layout.text_tokens)], dtype=np.int64)

    def say(self, lengths: Sequence[int]) -> Sequence[Said]:
        """Draw an utterance with the network as it stands, and make the rows that training would have of it."""
        network, layout = self._network, self._model.layout
        prompt = self._model.prompt.inference_prompt(self._text)
        training = network.training
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
