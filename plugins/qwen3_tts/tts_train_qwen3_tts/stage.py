"""What is trained, and on what: the family's module and data with Qwen3-TTS and its voices in them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from tts_train.contract import DataError
from tts_train.datasets import PreparedSet
from tts_train.families.token_lm import TokenData, TokenModule
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Part = Literal["text_embedding", "text_projection", "talker", "code_predictor"]


class Qwen3TTSModule(TokenModule):
    """Train talker and code predictor on prepared frames.

    Args:
        init_from: Base to start from: a hub name, a local folder, an export of this tool, or ``tiny``.
        frozen: Parts that are not trained, of ``text_embedding``, ``text_projection``, ``talker`` (its layers) and
            ``code_predictor``. The text table has 311 million weights, most of them for words of other languages.
        options: Those of :class:`TokenModule`.
    """

    token_lm = QWEN3_TTS

    def __init__(
        self,
        init_from: str = QWEN3_TTS.base,
        frozen: Sequence[Part] = ("text_embedding",),
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(init_from=init_from, **options)
        self.frozen = tuple(frozen)

    def build(self) -> None:
        """Build the networks from :attr:`init_from`, and give them the voices of the data."""
        super().build()
        data = self.stage_data
        if isinstance(data, Qwen3TTSData) and (known := data.voices()):
            assert self.network is not None
            self.network.lm.take_voices(*known)

    def _set_up(self, network: Any) -> None:  # noqa: ANN401
        super()._set_up(network)
        talker = network.lm.talker
        parts = {
            "text_embedding": talker.model.text_embedding,
            "text_projection": talker.text_projection,
            "talker": talker.model.layers,
            "code_predictor": talker.code_predictor,
        }
        for name in self.frozen:
            parts[name].requires_grad_(False)
        if hasattr(network.lm, "speaker_encoder"):
            # Voices are taken by it; with other weights those of the data would be of no use.
            network.lm.speaker_encoder.requires_grad_(False)


class Qwen3TTSData(TokenData):
    """Batches of prepared frames.

    Args:
        path: Folder that ``tts-train prepare`` wrote.
        voice: ``speaker`` gives each utterance the mean voice of its speaker's recordings, ``clip`` that of its own
            reference or recording, so that the model learns to follow a reference.
        options: Those of :class:`TokenData`.
    """

    token_lm = QWEN3_TTS

    def __init__(self, path: str, voice: Literal["speaker", "clip"] = "speaker", **options: Any) -> None:  # noqa: ANN401
        super().__init__(path=path, **options)
        self.voice = voice

    def voices(self) -> tuple[list[str], Tensor] | None:
        """Return the speakers' names and their vectors (N, H); with ``clip`` behind them each row's own.

        Raises:
            DataError: if no recording of a speaker is long enough to take the voice from.
        """
        names = self._names
        if not names:
            return None
        own, speakers = self._vectors
        means = np.zeros((len(names), own.shape[1]), dtype=np.float32)
        for place, name in enumerate(names):
            known = own[(speakers == name) & np.isfinite(own[:, 0])]
            if not len(known):
                raise DataError(
                    f"No recording of {name or 'the speaker'} in {self.path} is long enough to take the voice from. "
                    "Give rows a ref_audio of 3 s or more and prepare again."
                )
            means[place] = known.mean(axis=0)
        if self.voice == "speaker":
            return names, torch.from_numpy(means)
        places = np.array([names.index(name) for name in speakers])
        filled = np.where(np.isfinite(own), own, means[places])
        return names, torch.from_numpy(np.concatenate([means, filled]))

    def collate(self, rows: list[Any]) -> Any:  # noqa: ANN401
        """Join documents to a batch; with ``clip`` each has its own voice."""
        return super().collate([self._with_own_voice(row) for row in rows] if self.voice == "clip" else rows)

    def _with_own_voice(self, document: Any) -> Any:  # noqa: ANN401
        base, count = LAYOUT.voice_base, len(self._names)
        ids = document.input_ids
        named = (ids >= base) & (ids < base + count)
        return replace(document, input_ids=np.where(named, base + count + self._places[document.id], ids))

    @cached_property
    def _prepared(self) -> PreparedSet:
        return PreparedSet(self.path, kind=QWEN3_TTS.kind, columns=("id", "speaker", "voice"))

    @cached_property
    def _names(self) -> list[str]:
        return list(self._prepared.settings.get("voices") or ())

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._prepared.ids)}

    @cached_property
    def _vectors(self) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
        """Each row's vector (rows, H), not finite where it has none, and its speaker's name."""
        vectors: list[NDArray[np.float32]] = []
        speakers: list[str] = []
        for table in self._prepared.rows.tables(["speaker", "voice"]):
            speakers += [(name or "").lower() for name in table.column("speaker").to_pylist()]
            vectors += [np.asarray(one, dtype=np.float32) for one in table.column("voice").to_pylist()]
        return np.stack(vectors), np.array(speakers)
