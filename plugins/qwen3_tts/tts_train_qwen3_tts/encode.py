"""Makes training rows: frames of codes, and the vector of each row's voice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from tts_train.contract import Clip, DataError
from tts_train.corpus import RowRejected, Utterance, read_audio
from tts_train.families.token_lm import TokenEncoder, weights_fingerprint
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.networks.speaker import LEAST_SECONDS, SAMPLE_RATE, SpeakerEncoder, embed
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

if TYPE_CHECKING:
    from torch import Tensor

VOICE = pa.field("voice", pa.list_(pa.float32()))
"""The speaker encoder's vector of a row; null where its sound is too short."""


@dataclass(frozen=True, kw_only=True)
class Qwen3TTSEncoder(TokenEncoder):
    """Makes rows of ids of recordings with their text, and takes the voice of each."""

    voices: tuple[str, ...] = ()
    """Names of the corpus' speakers in lower case, sorted; an empty one for rows without a name."""
    speaker_encoder: str = ""
    speaker_fingerprint: str = ""

    @property
    def schema(self) -> pa.Schema:
        """Columns of a row."""
        return super().schema.append(VOICE) if self.voices else super().schema

    @property
    def prompt(self) -> Qwen3TTSPrompt:
        """The format that rows are written in, by the corpus' speakers."""
        return Qwen3TTSPrompt(speakers={name: LAYOUT.voice_base + place for place, name in enumerate(self.voices)})

    def sources(self) -> Mapping[str, str]:
        """Return the codec, the tokenizer and the speaker encoder."""
        return {**super().sources(), "speaker_encoder": self.speaker_encoder}

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what rows depend on besides the corpus."""
        own = {"voices": list(self.voices), "speaker_fingerprint": self.speaker_fingerprint}
        return {**super().fingerprint(), **own}

    def named(self, row: Utterance) -> str | None:
        """Return whose voice a row has: that without a name too, where voices are taken."""
        return (row.speaker or "") if self.voices else super().named(row)

    def encode(self, clips: Sequence[Clip], device: str) -> Iterator[Mapping[str, Any] | RowRejected]:
        """Yield the columns of each clip."""
        for clip, columns in zip(clips, super().encode(clips, device), strict=True):
            if isinstance(columns, RowRejected) or not self.voices:
                yield columns
                continue
            try:
                yield {**columns, VOICE.name: self._voice(clip, device)}
            except RowRejected as rejected:
                yield rejected

    def _voice(self, clip: Clip, device: str) -> list[float] | None:
        encoder = speaker_encoder(self.speaker_encoder, device)
        row = clip.row
        if isinstance(row, Utterance) and row.reference is not None:
            return _reference_voice(encoder, row.reference)
        if clip.audio is None or len(clip.audio.samples) < LEAST_SECONDS * SAMPLE_RATE:
            return None
        return _listed(embed(encoder, torch.from_numpy(clip.audio.samples)))


@lru_cache(maxsize=64)
def _reference_voice(encoder: SpeakerEncoder, file: Any) -> list[float]:  # noqa: ANN401
    try:
        return _listed(embed(encoder, torch.from_numpy(read_audio(file, sample_rate=SAMPLE_RATE).samples)))
    except RowRejected as error:
        raise RowRejected("bad_reference", f"{error.reason} ({error.detail})") from error
    except DataError as error:
        raise RowRejected("bad_reference", str(error)) from error


def _listed(vector: Tensor) -> list[float]:
    made: list[float] = vector.float().cpu().tolist()
    return made


@lru_cache(maxsize=1)
def speaker_encoder(source: str, device: str) -> SpeakerEncoder:
    """Return the speaker encoder of a base model, loaded once in a process."""
    from tts_train_qwen3_tts.networks.speaker_files import load_speaker_encoder

    return load_speaker_encoder(source).to(device)


def encoder_fingerprint(source: str) -> str:
    """Return a name that the weights of a speaker encoder decide."""
    return weights_fingerprint("ecapa", speaker_encoder(source, "cpu"))
