"""The networks, rows and words that Qwen3-TTS's reference figures are of, and how figures are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.figures import Figure, unknown
from tests.gpt_sovits.sovits_figures import compare_probe
from tests.qwen3_tts.filling import fill_all, inputs, integers
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.network.start import empty_network
from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig
from tts_train_qwen3_tts.networks.talker import Qwen3TTSLM
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

DESCRIPTIVE = {"salt", "torch", "transformers", "upstream", "config", "codes", "rules", "note"}
"""Fields that say what figures are of."""
WORDS = 360
"""Text rows that texts are drawn from; the control tokens are above them."""


@dataclass(frozen=True)
class Kind:
    """A type that figures were computed in, and the largest errors for it."""

    dtype: torch.dtype
    loss: float
    probe: float
    """Share of the root mean square."""
    gradient: float
    steps: float
    """For what several steps of an optimiser lead to."""


KINDS = {
    "float32": Kind(torch.float32, loss=1e-5, probe=1e-4, gradient=1e-3, steps=1e-3),
    "float64": Kind(torch.float64, loss=1e-6, probe=1e-5, gradient=1e-5, steps=1e-5),
}


class Reference:
    """A network of a file in one type, and what it reads.

    Args:
        data: The file.
        values: The configuration of one of its networks.
        kind: Name of the type.
    """

    def __init__(self, data: Mapping[str, Any], values: Mapping[str, Any], kind: str) -> None:
        self.salt: str = data.get("salt", "")
        self.kind, self.dtype = KINDS[kind], KINDS[kind].dtype
        self.config = Qwen3TTSConfig(**{**values, "speaker_encoder_config": None})
        self._lm: Qwen3TTSLM | None = None

    @property
    def lm(self) -> Qwen3TTSLM:
        """The network, without voices until :meth:`give_voices`."""
        if self._lm is None:
            self.give_voices([])
        assert self._lm is not None
        return self._lm

    def give_voices(self, names: Sequence[str]) -> None:
        """Build the network anew, with the vector of each name."""
        self.config.voices = list(names)
        lm = empty_network(self.config, dtype=self.dtype, network_class=Qwen3TTSLM)
        shapes = [(name, parameter.shape) for name, parameter in lm.named_parameters()]
        weights = fill_all(shapes, salt=self.salt, dtype=self.dtype)
        vectors = [self.inputs(name, (self.config.hidden_size,)) for name in names]
        weights["voices"] = torch.stack(vectors) if vectors else torch.zeros_like(lm.voices)
        lm.load_state_dict(weights)
        self._lm = lm.eval()

    @property
    def layout(self) -> Any:
        """The ids."""
        return self.lm.layout

    @property
    def role(self) -> list[int]:
        """Text rows of the role: im_start, assistant, newline, which stand one behind the other in these networks."""
        assistant = self.config.assistant_token_id
        return [self.config.im_start_token_id, assistant, assistant + 1]

    def inputs(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return the float input ``name``."""
        return inputs(name, shape, salt=self.salt, dtype=self.dtype)

    def words(self, name: str, count: int) -> list[int]:
        """Return the text rows ``name``."""
        return integers(name, (count,), WORDS, salt=self.salt).tolist()

    def codes(self, name: str, frames: int) -> Tensor:
        """Return the codes (frames, K) of the frames ``name``."""
        shape = (frames, self.config.talker["num_code_groups"])
        return integers(name, shape, self.config.predictor["vocab_size"], salt=self.salt)

    def audio(self, codes: Tensor) -> np.ndarray:
        """Return the ids of frames (frames, K)."""
        return self.layout.codes_to_tokens(list(codes.T.numpy()))

    def rows(self, lens: Sequence[Sequence[int]], tag: str) -> list[Document]:
        """Return training rows of texts and frames of some lengths, each in a voice of its own."""
        prompt, made = Qwen3TTSPrompt(self.layout), []
        for i, (words, frames) in enumerate(lens):
            body = self.words(f"text.{tag}.{i}", words)
            text = prompt.positions(body, role=self.role, speaker=self.layout.voice_base + i)
            row = prompt.speech_row(text, self.audio(self.codes(f"codes.{tag}.{i}", frames)))
            made.append(Document(str(i), row.input_ids, row.prompt))
        return made


def compared(
    where: str, expected: Mapping[str, Any], got: Mapping[str, Any], kind: Kind, *, share: float | None = None
) -> Iterator[Figure]:
    """Yield a figure for each field of a case with the tolerance of its sort; fields that are not in ``got`` fail.

    Args:
        where: Stands before the names.
        expected: The figures.
        got: Ours: tensors where a probe is expected.
        kind: The type they are in.
        share: Tolerance of all of them in place of the type's.
    """
    for name, value in expected.items():
        place, have = f"{where}.{name}", got.get(name)
        if have is None:
            yield unknown(place, value)
        elif isinstance(value, dict) and "sumsq" in value:
            yield from compare_probe(place, value, have, share or kind.probe)
        elif isinstance(value, dict):
            yield from compared(place, value, have, kind, share=share)
        else:
            is_slope = "grad" in name or name == "l2"
            yield Figure(place, value, have, relative=share or (kind.gradient if is_slope else kind.loss))


def gradients(network: nn.Module) -> dict[str, dict[str, Any]]:
    """Return norm and counts of the gradients of each part by its released name, and of all of them."""
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        names = [each for each in name.removeprefix("talker.").split(".") if each != "model"]
        part = ".".join(names[:2]) if names[0] == "code_predictor" else f"talker.{names[0]}"
        for each in (part, "<all>"):
            parts.setdefault(each, []).append(parameter)
    return {part: {**norm(members), "params": len(members)} for part, members in parts.items()}


def norm(parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """Return the norm of gradients, and how many there are."""
    slopes = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = sum(float(slope.double().square().sum()) for slope in slopes)
    return {"l2": total**0.5, "params_with_grad": len(slopes)}
