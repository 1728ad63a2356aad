"""Makes rows for every stage of recordings with their text; runs in the processes of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tts_train.contract import Clip, RowEncoder
from tts_train.corpus import RowRejected
from tts_train_gpt_sovits.features.bert import BertFeatures
from tts_train_gpt_sovits.features.hubert import HubertFeatures, clip_fault
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.features.speaker import SpeakerVectors
from tts_train_gpt_sovits.preparing.models import TINY, Sources
from tts_train_gpt_sovits.preparing.prepared import KIND
from tts_train_gpt_sovits.released.bases import RELEASED
from tts_train_gpt_sovits.signal.audio import training_wave
from tts_train_gpt_sovits.text import FrontEnd, SpokenText, TextRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tts_train.corpus import Utterance

SAMPLE_RATE = 32_000

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        pa.field("norm_text", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("language", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("phonemes", pa.list_(pa.int32())),
        pa.field("word2ph", pa.list_(pa.int32())),
        pa.field("codes", pa.list_(pa.int32())),
        pa.field("num_codes", pa.int32()),
        pa.field("bert", pa.list_(pa.float16())),
        pa.field("wave", pa.list_(pa.int16())),
        pa.field("speaker_vector", pa.list_(pa.float32())),
        pa.field("ssl", pa.list_(pa.float16())),
        pa.field("origin", pa.string()),
    ]
)

MAX_CHARACTERS = 510
"""Of one stretch of Chinese: what its network has positions for."""

CODE_VERSION = 2
"""Part of every shard's address: raise it when the same input would give other rows."""


@dataclass(frozen=True)
class Networks:
    """The networks of preparation on one device."""

    hubert: HubertFeatures
    semantic: SemanticTokens
    bert: BertFeatures | None
    speaker: SpeakerVectors | None


@dataclass(frozen=True, kw_only=True)
class GptSovitsEncoder(RowEncoder):
    """Makes rows for every stage of recordings with their text."""

    kind = KIND
    schema = SCHEMA
    length_column = "num_codes"
    sample_rate = SAMPLE_RATE
    built_in = (TINY, RELEASED)

    version: str
    language: str | None = None
    """Of texts that name none."""
    models: str = RELEASED
    networks: Sources | None = None
    """None where rows are only read."""
    hubert: str = ""
    """Fingerprint of the network of the speech features; so are the next three."""
    quantizer: str = ""
    bert: str | None = None
    """None where no row is Chinese."""
    speaker: str | None = None
    """None where the version takes no speaker vector."""
    text: str = ""
    """Fingerprint of the text front end: libraries and tables."""
    keep_ssl: bool = False

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what rows depend on besides the corpus."""
        names = ("version", "language", "hubert", "quantizer", "bert", "speaker", "text", "keep_ssl")
        return {"code_version": CODE_VERSION, **{name: getattr(self, name) for name in names}}

    def sources(self) -> Mapping[str, str]:
        """Return where the networks are that speaking needs too."""
        assert self.networks is not None
        return {"sovits": self.networks.sovits, "models": self.models}

    def read_text(self, row: Utterance) -> SpokenText:
        """Return a text as phonemes."""
        try:
            said = front_end(self.version, self.language).speak(row.text, row.language)
        except TextRejected as rejected:
            raise RowRejected(rejected.reason, rejected.detail) from None
        if any(_has_features(part) and len(part.norm_text) > MAX_CHARACTERS for part in said.parts):
            raise RowRejected("text_too_long", f"more than {MAX_CHARACTERS} characters in one stretch of Chinese")
        return said

    def check_sound(self, samples: NDArray[np.float32]) -> None:
        """Refuse what has no speech features."""
        if fault := clip_fault(torch.from_numpy(samples)):
            raise RowRejected(fault)

    def encode(self, clips: Sequence[Clip], device: str) -> Iterator[Mapping[str, Any]]:
        """Yield the columns of each clip."""
        assert self.networks is not None
        networks = networks_on(self.networks, device, self.bert is not None, self.speaker is not None)
        waves = [torch.from_numpy(clip.audio.samples) for clip in clips if clip.audio is not None]
        mixed = [training_wave(wave) for wave in waves]
        features = networks.hubert.encode(waves)
        codes = networks.semantic.encode(features)
        texts = text_features([clip.text for clip in clips], networks.bert)
        voices: Sequence[Tensor | None] = [None] * len(clips)
        if networks.speaker is not None:
            voices = networks.speaker.encode(mixed)
        for clip, wave, ssl, tokens, bert, voice in zip(clips, mixed, features, codes, texts, voices, strict=True):
            yield {
                "norm_text": clip.text.norm_text,
                "language": clip.text.language,
                "phonemes": list(clip.text.ids),
                "word2ph": None if clip.text.word2ph is None else list(clip.text.word2ph),
                "codes": tokens.cpu().numpy().astype(np.int32),
                "num_codes": len(tokens),
                "bert": None if bert is None else bert.cpu().half().flatten().numpy(),
                "wave": wave.numpy(),
                "speaker_vector": None if voice is None else voice.cpu().float().flatten().numpy(),
                "ssl": ssl.cpu().half().flatten().numpy() if self.keep_ssl else None,
            }


def text_features(said: Sequence[SpokenText], bert: BertFeatures | None) -> list[Tensor | None]:
    """Return features (phonemes, 1024) of each text, zero outside its Chinese parts, or None where it has none."""
    parts = [(part.norm_text, part.word2ph or ()) for each in said for part in each.parts if _has_features(part)]
    found = iter(bert.encode(parts)) if bert is not None and parts else iter(())
    return [_join(each, found) if bert and any(map(_has_features, each.parts)) else None for each in said]


def _has_features(part: Any) -> bool:  # noqa: ANN401 - a part of a text
    return part.language == "zh" and bool(part.phones)


def _join(said: SpokenText, found: Iterator[Tensor]) -> Tensor:
    return torch.cat(
        [next(found) if _has_features(part) else torch.zeros(len(part.phones), 1024) for part in said.parts]
    )


@lru_cache(maxsize=1)
def networks_on(sources: Sources, device: str, bert: bool, speaker: bool) -> Networks:
    """Return the networks, loaded once in a process; the last two only where they are needed."""
    where = torch.device(device)
    return Networks(
        hubert=HubertFeatures.load(sources.hubert, where),
        semantic=SemanticTokens.load(sources.sovits, where),
        bert=BertFeatures.load(sources.bert, where) if bert else None,
        speaker=SpeakerVectors.load(sources.speaker, where) if speaker else None,
    )


@lru_cache(maxsize=1)
def front_end(version: str, language: str | None = None) -> FrontEnd:
    """Return the text front end, made once in a process; ``language`` is that of texts that name none."""
    return FrontEnd(version, default_language=language)
