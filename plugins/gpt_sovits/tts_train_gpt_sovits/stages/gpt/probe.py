"""What the stages ``gpt`` and ``dpo`` state of their training: what is drawn is what is taught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.contract import NoProbe, Said, SpeechProbe, StageData
from tts_train_gpt_sovits.networks.gpt.generate import GptLine, SamplingOptions, generate, generate_lines
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, PackedBatch
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH
from tts_train_gpt_sovits.starts.gpt import load_initial

if TYPE_CHECKING:
    from tts_train_gpt_sovits.networks.gpt.network import GptNetwork

_PHONEMES, _PROMPT, _GREEDY = 12, 7, 24
_ALL = SamplingOptions(top_k=0, repetition_penalty=1.0)


class GptProbe(SpeechProbe):
    """Measures a :class:`~tts_train_gpt_sovits.stages.gpt.module.GptModule` on codes that its network draws."""

    module: Any
    data: Any

    def say(self, lengths: Sequence[int]) -> Sequence[Said]:
        """Draw codes with the network as it stands, after a spoken prompt where training has one."""
        network: GptNetwork = self.module.network
        end, scores = network.config.end, list[Tensor]()
        line = GptLine(phonemes=_phonemes(), prompt=self._prompt, bert=_features())
        with self.still():
            (speech,) = generate_lines(
                network, [line], options=replace(_ALL, max_codes=max(lengths) + 1), scores=scores
            )
        # The last code of a speech that was cut off has no end after it whose probability is known.
        whole = len(speech.codes) - (not speech.ended)
        made = []
        for size in (min(length, whole) for length in lengths):
            codes = speech.codes[:size].clone()
            row = self._row(codes)
            likely = torch.stack([each[0] for each in scores[: size + 1]])
            made.append(Said(row=row, tokens=torch.cat([codes, codes.new_tensor([end])]), scores=likely))
        return made

    def weight(self, batch: PackedBatch) -> float:
        """Return how many targets there are; ends count."""
        return float(sum(batch["counts"]))

    @contextmanager
    def still(self) -> Iterator[None]:
        """Drop nothing: these networks drop in training mode alone, and differ in nothing else."""
        training = self.module.network.training
        self.module.network.eval()
        try:
            yield
        finally:
            self.module.network.train(training)

    def greedy(self, run: Path, export: Path) -> tuple[Sequence[int], Sequence[int]] | NoProbe:
        """Draw the likeliest codes with the run, rounded to half as its file is, and with the file."""
        (file,) = export.glob("*.ckpt")
        likeliest = [_likeliest(load_initial(str(source)).half().float()) for source in (run, file)]
        return likeliest[0], likeliest[1]

    @property
    def _prompt(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def _row(self, codes: Tensor) -> GptUtterance:
        return GptUtterance(phonemes=_phonemes(), codes=codes, bert=_features(), prompt=self._prompt)


class DpoProbe(GptProbe):
    """The same for pairs: the loss of what was drawn is that of rows without a pair; the preference gives gradients."""

    @property
    def _prompt(self) -> Tensor:
        return torch.arange(_PROMPT * self.data.sampled)

    def _row(self, codes: Tensor) -> GptUtterance:
        return replace(super()._row(codes), rehearsed=True)

    def step(self, batch: PackedBatch) -> None:
        """Make the gradients of a step on pairs, in which each utterance is preferred to itself said twice."""
        del batch
        rows = [replace(said.row, rehearsed=False) for said in self.say((5, 9))]
        pairs = [replace(row, rejected=torch.cat([row.codes, row.codes])) for row in rows]
        super().step(self.data.collate(pairs))


def probe_of(module: Any, data: StageData, *, preferring: bool) -> GptProbe | NoProbe:  # noqa: ANN401 - a GptModule
    """Return what a stage is measured by; not with upstream's padding, which mirrors upstream's fault.

    Args:
        module: Of the stage ``gpt`` or ``dpo``.
        data: Its data.
        preferring: Whether it is trained on pairs.
    """
    if module.padding == "upstream":
        return NoProbe(why="With upstream's padding an utterance's loss depends on its batch, as there.")
    return (DpoProbe if preferring else GptProbe)(module, data)


def _likeliest(network: GptNetwork) -> list[int]:
    options = replace(_ALL, top_k=1, max_codes=_GREEDY)
    none = torch.zeros(0, dtype=torch.int64)
    codes: list[int] = generate(network.eval(), _phonemes(), none, bert=_features(), options=options).codes.tolist()
    return codes


def _phonemes() -> Tensor:
    """Return a text that every table of phonemes has; what it means does not matter."""
    return torch.arange(_PHONEMES) * 7 % 40 + 1


def _features() -> Tensor:
    """Return features as a text of a language with BERT has them, so that their projection is measured too."""
    return torch.randn(_PHONEMES, BERT_WIDTH, generator=torch.Generator().manual_seed(0))
