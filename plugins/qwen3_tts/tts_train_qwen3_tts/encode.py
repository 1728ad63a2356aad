"""Makes training rows: frames of codes, and the vector of each row's voice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pyarrow as pa
import torch

from tts_train.contract import Clip, ConfigError, DataError
from tts_train.corpus import RowRejected, Utterance
from tts_train.families.token_lm import TokenEncoder, weights_fingerprint
from tts_train_qwen3_tts.codec.sizes import SUFFIX
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.model import prompt_of
from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig
from tts_train_qwen3_tts.networks.speaker import LEAST_SECONDS, SAMPLE_RATE, SpeakerEncoder, check_reference, embed
from tts_train_qwen3_tts.networks.speaker_files import is_tiny, load_speaker_encoder, model_config
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Samples: TypeAlias = NDArray[np.float32]

Read = TypeVar("Read")
VOICE = pa.field("voice", pa.list_(pa.float32()))
"""The speaker encoder's vector of a row; null where its sound is too short."""


@dataclass(frozen=True, kw_only=True)
class Qwen3TTSEncoder(TokenEncoder):
    """Makes rows of ids of recordings with their text, or of codes, and takes the voice of each."""

    # Ids of rows are of our own making: nobody else has any.
    takes_ids = False

    codec_window: str = "off"
    speaker_encoder: str = ""
    """What takes the voices; an empty one where rows have none."""
    speaker_fingerprint: str = ""
    voices: tuple[str, ...] = ()
    """Names of the corpus' speakers in lower case, sorted; an empty one for rows without a name."""
    known: Mapping[str, int] = field(default_factory=dict)
    """Ids of the speakers that the base knows by name, where no voices are taken."""
    dialects: Mapping[str, str] = field(default_factory=dict)
    """The languages of those that speak a dialect."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of a row."""
        return super().schema.append(VOICE) if self.speaker_encoder else super().schema

    @property
    def takes_reference(self) -> bool:
        """Whether voices are taken."""
        return bool(self.speaker_encoder)

    @property
    def codec_source(self) -> str:
        """The codec, with the window of its encoder."""
        return f"{self.codec}{SUFFIX}{self.codec_window}"

    @property
    def prompt(self) -> Qwen3TTSPrompt:
        """The format that rows are written in, by the corpus' speakers or those of the base."""
        speakers = {name: LAYOUT.voice_base + place for place, name in enumerate(self.voices)}
        return Qwen3TTSPrompt(speakers=speakers or self.known, dialects=self.dialects)

    def sources(self) -> Mapping[str, str]:
        """Return the codec, the tokenizer and, where voices are taken, the speaker encoder."""
        return {**super().sources(), **({"speaker_encoder": self.speaker_encoder} if self.speaker_encoder else {})}

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what rows depend on besides the corpus."""
        own = {"voices": list(self.voices), "speaker_fingerprint": self.speaker_fingerprint}
        named = {"known": dict(self.known), "dialects": dict(self.dialects)} if self.known else {}
        return {**super().fingerprint(), **own, **named}

    def named(self, row: Utterance) -> str | None:
        """Return whose voice a row has: that without a name too, where voices are taken."""
        return (row.speaker or "") if self.speaker_encoder else super().named(row)

    def check(self, clip: Clip) -> None:
        """Refuse texts that cannot be written in ids, and references that no voice can be taken from."""
        super().check(clip)
        if clip.reference is not None:
            _usable(clip.reference.samples, check_reference)

    def encode(self, clips: Sequence[Clip], device: str) -> Iterator[Mapping[str, Any] | RowRejected]:
        """Yield the columns of each clip."""
        taken: dict[int, list[float] | RowRejected] = {}
        for clip, columns in zip(clips, super().encode(clips, device), strict=True):
            if isinstance(columns, RowRejected) or not self.speaker_encoder:
                yield columns
                continue
            sound = _voiced(clip)
            # One reference is often that of all rows of a speaker.
            if sound is not None and id(sound) not in taken:
                taken[id(sound)] = self._voice(sound, device)
            voice = None if sound is None else taken[id(sound)]
            yield voice if isinstance(voice, RowRejected) else {**columns, VOICE.name: voice}

    def _voice(self, sound: Samples, device: str) -> list[float] | RowRejected:
        encoder = speaker_encoder(self.speaker_encoder, device)
        try:
            return _usable(sound, lambda samples: _listed(embed(encoder, samples)))
        except RowRejected as rejected:
            return rejected


def _usable(sound: Samples, use: Callable[[Tensor], Read]) -> Read:
    try:
        return use(torch.from_numpy(sound))
    except DataError as error:
        raise RowRejected("bad_reference", str(error)) from None


def _voiced(clip: Clip) -> Samples | None:
    """Return what the voice of a row is taken from: its reference, or its recording if that is long enough."""
    if clip.reference is not None:
        return clip.reference.samples
    own = None if clip.audio is None else clip.audio.samples
    return own if own is not None and len(own) >= LEAST_SECONDS * SAMPLE_RATE else None


def _listed(vector: Tensor) -> list[float]:
    made: list[float] = vector.float().cpu().tolist()
    return made


@lru_cache(maxsize=1)
def speaker_encoder(source: str, device: str) -> SpeakerEncoder:
    """Return the speaker encoder of a base model, loaded once in a process."""
    return load_speaker_encoder(source).to(device)


def encoder_fingerprint(source: str) -> str:
    """Return a name that the weights of a speaker encoder decide."""
    return weights_fingerprint("ecapa", speaker_encoder(source, "cpu"))


def known_speakers(source: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return the ids of the speakers that a model knows by name, and the dialects of those that speak one.

    Raises:
        ConfigError: if it knows none.
    """
    form = Qwen3TTSPrompt() if is_tiny(source) else prompt_of(Qwen3TTSConfig(**model_config(source)))
    if not form.speakers:
        raise ConfigError(
            f"The corpus names speakers, and {source} knows none by name. Leave --speaker_encoder at auto, so that "
            "their voices are taken; --voice_prefix never leaves them out."
        )
    return dict(form.speakers), dict(form.dialects)
