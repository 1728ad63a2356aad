"""What is trained, and on what: the family's module and data with Qwen3-TTS and its voices in them."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from tts_train.contract import ConfigError, DataError
from tts_train.datasets import PreparedSet
from tts_train.families.token_lm import PairData, PreferenceModule, PromptData, ReinforceModule, TokenData, TokenModule
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS, prompt_of
from tts_train_qwen3_tts.networks.speaker import LEAST_SECONDS
from tts_train_qwen3_tts.pairs import PairedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_log = logging.getLogger(__name__)
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
        frozen: tuple[Part, ...] = ("text_embedding",),
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(init_from=init_from, **options)
        self.frozen = tuple(frozen)

    def build(self) -> None:
        """Build the networks from :attr:`init_from`, and give them the voices of the data.

        Raises:
            ConfigError: if the data name speakers that the base does not know.
        """
        super().build()
        data = self.stage_data
        if not isinstance(data, Qwen3TTSData):
            return
        assert self.network is not None
        lm = self.network.lm
        if taken := data.voices():
            if lost := sorted(set(lm.config.voices) - set(taken[0])):
                _log.warning(
                    "%s knows %s, of whom %s has no voice: what is trained here will not know them.",
                    self.init_from,
                    _shown(lost),
                    data.path,
                )
            lm.take_voices(*taken)
            # The same on all processes, and as large as the data: DDP would send it to each in every step.
            self._ddp_params_and_buffers_to_ignore = ["network.lm.own_voices"]
        speakers = prompt_of(lm.config).speakers
        if other := [name for name, position in data.known if speakers.get(name) != position]:
            raise ConfigError(
                f"{data.path} names the speaker {other[0]}, as the model that it was prepared for knows it, and "
                f"{self.init_from} does not. Train from that model, or prepare again with --speaker_encoder of a Base "
                "model, which takes the voices."
            )

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
        references: Share of the utterances (0 to 1) that are trained behind another one of their speaker, its words and
            frames in front, so that the model learns to go on from a reference; validation is without.
        options: Those of :class:`TokenData`.
    """

    token_lm = QWEN3_TTS

    def __init__(
        self,
        path: str,
        voice: Literal["speaker", "clip"] = "speaker",
        references: float = 0.0,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(path=path, **options)
        if not 0 <= references <= 1:
            raise ConfigError(f"--data.references is a share of the utterances, 0 to 1, and {references:g} was given.")
        self.voice, self.references = voice, references

    def setup(self, stage: str) -> None:
        """Open the data, and refuse a validation set whose positions name other voices.

        Raises:
            ConfigError: if there is one.
        """
        if self._rows is not None:
            return
        super().setup(stage)
        if self.voice == "clip" and not self._names:
            raise ConfigError(
                f"--data.voice clip: {self.path} was prepared without voices. Prepare it again with --speaker_encoder "
                "of a Base model, or leave --data.voice out."
            )
        if self.references:
            self._pair()
        if self.val_path is None:
            return
        other = list(self._val_settings.get("voices") or ())
        if other != self._names or (other and self.voice == "clip"):
            raise ConfigError(
                f"{self.val_path} has voices of its own ({_shown(other)}), and the model is given those of {self.path} "
                f"({_shown(self._names)}). Prepare both as one corpus and use --data.val_share, or give sets of the "
                "same speakers and --data.voice speaker."
            )

    def voices(self) -> tuple[list[str], Tensor, Tensor | None] | None:
        """Return the speakers' names, their mean vectors (N, H) and with ``clip`` each row's own (rows, H).

        Raises:
            DataError: if nothing of a speaker is long enough to take the voice from.
        """
        names = self._names
        if not names:
            return None
        sums, counts = self._sums()
        if (counts == 0).any():
            name = names[int(np.argmin(counts))]
            raise DataError(
                f"No voice is known of {name or 'the speaker'} in {self.path}: there is no reference, and no recording "
                f"of {LEAST_SECONDS:g} s or more. Give rows a ref_audio of 3 s or more and prepare again."
            )
        means = sums / counts[:, None]
        own = self._own(means) if self.voice == "clip" else None
        return names, torch.from_numpy(means).float(), own

    @property
    def known(self) -> list[tuple[str, int]]:
        """Names and ids of speakers that the base has to know, those of the validation set too."""
        both = (self._prepared.settings, self._val_settings)
        return [named for settings in both for named in (settings.get("known") or {}).items()]

    def collate(self, rows: list[Any]) -> Any:  # noqa: ANN401
        """Join documents to a batch; with ``clip`` each has its own voice."""
        return super().collate([self._with_own_voice(row) for row in rows] if self.voice == "clip" else rows)

    def _pair(self) -> None:
        speech: Any = self._speech
        names = [
            name or "" for table in self._prepared.rows.tables(["speaker"]) for name in table["speaker"].to_pylist()
        ]
        whose = [names[number] for number in speech.rows]
        paired: Any = PairedSet(speech, whose, share=self.references, most=self.max_tokens, seed=self.seed)
        self._speech = self.train_set = paired
        self.max_length = max(int(self.max_length or 0), int(paired.lengths.max()))

    def _with_own_voice(self, document: Any) -> Any:  # noqa: ANN401
        place = self._places.get(document.id)
        if place is None:
            # Made up, for a plan.
            return document
        base, count = LAYOUT.voice_base, len(self._names)
        ids = document.input_ids
        named = (ids >= base) & (ids < base + count)
        return replace(document, input_ids=np.where(named, base + count + place, ids))

    @cached_property
    def _prepared(self) -> PreparedSet:
        return PreparedSet(self.path, kind=QWEN3_TTS.kind, columns=("id", "speaker", "voice"))

    @cached_property
    def _val_settings(self) -> Mapping[str, Any]:
        return {} if self.val_path is None else PreparedSet(self.val_path, columns=("id",)).settings

    @cached_property
    def _names(self) -> list[str]:
        return list(self._prepared.settings.get("voices") or ())

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._prepared.ids)} if self._names else {}

    def _taken(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]]:
        """Yield, for some rows at a time, whose they are (n,), which have a vector (n,), and these vectors (m, H)."""
        places = {name: place for place, name in enumerate(self._names)}
        for table in self._prepared.rows.tables(["speaker", "voice"]):
            speakers = table.column("speaker").to_pylist()
            column = table.column("voice").combine_chunks()
            has = np.asarray(column.is_valid())
            vectors = column.flatten().to_numpy().reshape(max(int(has.sum()), 1), -1)
            yield np.array([places[(name or "").lower()] for name in speakers]), has, vectors[: int(has.sum())]

    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the sum of each speaker's vectors (N, H), and of how many it is (N,)."""
        sums, counts = np.zeros((len(self._names), 1)), np.zeros(len(self._names), dtype=np.int64)
        for whose, has, vectors in self._taken():
            if len(vectors):
                sums = sums if sums.shape[1] > 1 else np.zeros((len(sums), vectors.shape[1]))
                np.add.at(sums, whose[has], vectors)
                np.add.at(counts, whose[has], 1)
        return sums, counts

    def _own(self, means: NDArray[np.float64]) -> Tensor:
        """Return the vector of each row (rows, H), the mean of its speaker where it has none."""
        made = np.empty((len(self._prepared), means.shape[1]), dtype=np.float32)
        first = 0
        for whose, has, vectors in self._taken():
            part = made[first : first + len(whose)]
            part[:] = means[whose]
            part[has] = vectors
            first += len(whose)
        return torch.from_numpy(made)


class Qwen3TTSPreference(PreferenceModule, Qwen3TTSModule):
    """Train talker and code predictor on pairs of takes."""

    def build(self) -> None:
        """Build the networks from :attr:`init_from`.

        Raises:
            ConfigError: if it does not know the voices of the pairs.
        """
        super().build()
        data = self.stage_data
        if not isinstance(data, Qwen3TTSPairs):
            return
        settings: Any = data.remember().get("settings") or {}
        named = list(settings.get("voices") or ())
        assert self.network is not None
        # Their ids count the voices of the run that was sampled; another run has others at the same places.
        known = list(self.network.lm.config.voices)
        if named and named != known:
            raise ConfigError(
                f"The pairs of {data.path} are said by {_shown(named)}, and {self.init_from} knows {_shown(known)}. "
                "Give the run that was sampled, or that was trained on this set: --model.init_from RUN."
            )


class Qwen3TTSPairs(PairData):
    """Batches of pairs of takes."""

    token_lm = QWEN3_TTS


class Qwen3TTSReinforce(ReinforceModule, Qwen3TTSModule):
    """Train talker and code predictor on takes that they draw."""


class Qwen3TTSPrompts(PromptData):
    """Texts that are spoken in training."""

    token_lm = QWEN3_TTS


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(name or "without a name" for name in names[:5]) + (", …" if len(names) > 5 else "")
    return shown or "none"
