"""A network that speaks, with its codec: from prompts to sound, whole or while the model still generates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.generate import Continued, generate, spoken, stream
from tts_train.families.token_lm.layout import FrameReader, TokenLayout
from tts_train.families.token_lm.model import HELD_TO, Codec, Sampling
from tts_train.families.token_lm.prompts import encode_line
from tts_train.families.token_lm.speaking.reference import encode_reference
from tts_train.families.token_lm.speaking.sources import open_model

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import Codec, TokenLM


class StreamDecoder:
    """Turns one utterance's ids into chunks of sound as they come.

    Every frame is emitted once, the first and the last included, and equals the same frame of a whole decode with the
    same seed to rounding. The sound of a frame can begin when the frames that the codec needs
    after it are there.

    Args:
        layout: of the ids.
        codec: the codec that decodes.
        seed: the noise's seed; None decodes without noise.
        chunk_frames: frames to wait for before decoding again. A chunk of n frames costs a decode of n frames and the
            context on both sides, so 1 is the soonest and larger is cheaper.
        behind: ids of the frames that the utterance continues, for a codec that looks back only.
    """

    def __init__(
        self,
        layout: TokenLayout,
        codec: Codec,
        *,
        seed: int | None = 0,
        chunk_frames: int = 1,
        behind: ArrayLike = (),
    ) -> None:
        if chunk_frames < 1:
            raise ConfigError(f"chunk_frames must be 1 or more, not {chunk_frames}.")
        self.reader = FrameReader(layout)
        """Counts ids that were no sound; ``reader.ended`` says whether the model ended by itself."""
        self._layout, self._codec, self._seed, self._chunk_frames = layout, codec, seed, chunk_frames
        # A codec that looks back only says so; of any other the context is on both sides.
        self._looks_back = getattr(codec, "ahead_frames", None) == 0
        self._ahead = 0 if self._looks_back else codec.context_frames
        # Frames of a reference are context alone: they count as given out before the first one comes.
        self._window: list[tuple[int, ...]] = [tuple(frame) for frame in layout.in_frames(behind).tolist()]
        self._window_start = 0
        self._emitted = len(self._window)

    def decode(self, tokens: Iterable[int]) -> Iterator[Tensor]:
        """Yield 1-D float32 chunks of whole frames, up to the end of speech or the end of ``tokens``."""
        for token in tokens:
            frame = self.reader.push(int(token))
            if frame is not None:
                self._window.append(frame)
                # A frame's sound depends on those behind it, so it waits until they are there.
                yield from self._emit(self._arrived - self._ahead, at_least=self._chunk_frames)
            if self.reader.ended:
                break
        self.reader.close()
        # At the end nothing more comes, as in a decode of the whole.
        yield from self._emit(self._arrived, at_least=1)

    @property
    def _arrived(self) -> int:
        return self._window_start + len(self._window)

    def _emit(self, until: int, *, at_least: int) -> Iterator[Tensor]:
        """Decode the window and yield the frames from the last one emitted to ``until``, if they are enough."""
        if until - self._emitted < at_least:
            return
        levels = self._layout.tokens_to_codes([token for frame in self._window for token in frame])
        if self._looks_back:
            tail: Any = self._codec.decode_tail  # type: ignore[attr-defined]  # not every codec has it
            yield tail(levels, until - self._emitted, first_frame=self._window_start)
        else:
            # Noise goes by the frame's number in the utterance, so windows get that of the whole.
            sound = self._codec.decode(levels, seed=self._seed, first_frame=self._window_start)
            size = self._codec.frame_samples
            yield sound[(self._emitted - self._window_start) * size : (until - self._window_start) * size]
        self._emitted = until
        # Frames that no later sound depends on: the window stays small however long the utterance.
        past = max(0, until - self._codec.context_frames - self._window_start)
        self._window = self._window[past:]
        self._window_start += past


@dataclass(frozen=True, kw_only=True)
class TokenVoice:
    """Continues prompts with audio ids, and makes sound of them."""

    token_lm: TokenLM
    lm: LlamaForCausalLM
    """In evaluation mode."""
    codec: Codec
    sampling: Sampling
    tokenizer: PreTrainedTokenizerBase | None = None
    """What reads texts; None where prompts come from elsewhere."""
    speakers: tuple[str, ...] = ()
    """Names that stand before the texts of the training data, as far as they are known."""
    languages: tuple[str, ...] = ()
    """Languages of the training data, as far as they are known."""
    references: tuple[tuple[str, Ids], ...] = ()
    """Text and ids of each recording whose voice is continued."""
    cloned: str | None = None
    """Name of the voice of the references, for a model that is told it besides; every prompt then names it."""

    def prompts(
        self,
        texts: Sequence[str],
        speaker: str | None = None,
        *,
        language: str | None = None,
        instruct: str | None = None,
    ) -> list[Ids]:
        """Return the prompt of each text, said in a language as an instruction asks where the model knows these.

        Raises:
            DataError: if a text names control tokens.
        """
        form, words = self.token_lm.format_of(self.lm.config), self.tokenizer
        assert words is not None
        speaker = self.cloned or speaker
        asked: dict[str, Any] = {"language": language, "instruct": instruct}
        pairs = [(encode_line(form, words, text, speaker), heard) for text, heard in self.references]
        said = [encode_line(form, words, text, speaker, **asked) for text in texts]
        return [form.zero_shot_prompt(pairs, ids) if pairs else form.inference_prompt(ids) for ids in said]

    def say(
        self,
        prompts: Sequence[Ids],
        *,
        seeds: Sequence[int],
        max_new_tokens: int | Sequence[int],
        batch_size: int | None = None,
    ) -> list[Continued]:
        """Continue prompts; see :func:`~tts_train.families.token_lm.decoding.generate.generate`."""
        return generate(
            self.token_lm.layout,
            self.lm,
            prompts,
            seeds=seeds,
            max_new_tokens=max_new_tokens,
            sampling=self.sampling,
            batch_size=batch_size,
        )

    def stream(self, prompt: Ids, *, seed: int, max_new_tokens: int) -> Iterator[int]:
        """Yield the ids that :meth:`say` gives for one prompt, each as soon as it is there."""
        layout = self.token_lm.layout
        return stream(layout, self.lm, prompt, seed=seed, max_new_tokens=max_new_tokens, sampling=self.sampling)

    def read(self, ids: Sequence[int], seconds: float) -> Continued:
        """Read generated ids; ``seconds`` is how long they took."""
        return spoken(self.token_lm.layout, ids, seconds)

    def sound(self, codes: Sequence[ArrayLike], *, seed: int) -> Tensor:
        """Return the sound of codes as float32 (samples,), as it is behind the references."""
        behind, frames = self._behind(), len(np.asarray(codes[0]))
        if not behind.size or not frames:
            return self.codec.decode(codes, seed=seed)
        # By itself an utterance would begin as if there had been silence before it.
        heard = self.token_lm.layout.tokens_to_codes(behind)
        whole = [np.concatenate([one, np.asarray(other)]) for one, other in zip(heard, codes, strict=True)]
        # Only what was said is made into samples, however long the references are.
        tail: Any = self.codec.decode_tail  # type: ignore[attr-defined]  # what looks back has it
        sound: Tensor = tail(whole, frames)
        return sound

    def stream_decoder(self, *, seed: int) -> StreamDecoder:
        """Return what decodes an utterance while it is generated, to the sound that :meth:`sound` gives."""
        return StreamDecoder(self.token_lm.layout, self.codec, seed=seed, behind=self._behind())

    def _behind(self) -> Ids:
        """Return the ids of all references, where the sound of what continues them depends on theirs."""
        # With any other codec an utterance is decoded by itself, as those who released its models do.
        looks_back = getattr(self.codec, "ahead_frames", None) == 0
        return np.concatenate([np.zeros(0, np.int64), *(ids for _, ids in self.references if looks_back)])


def open_voice(
    token_lm: TokenLM,
    source: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    sampling: Sampling,
    as_trained: bool = False,
    codec: str | None = None,
    tokenizer: str | None = None,
    references: Sequence[tuple[Path, str]] = (),
) -> TokenVoice:
    """Open a run, a checkpoint, an export or an upstream model so that it can speak.

    Args:
        token_lm: What kind of model it is.
        source: A path or a hub name.
        device: Where it will compute.
        dtype: Type of its weights.
        sampling: How ids are drawn.
        as_trained: Let only ids come that the model was trained against, whatever ``sampling`` says.
        codec: Codec; None takes that of the training data as far as it is known, else that of the released models.
        tokenizer: Tokenizer, where it is not beside the model.
        references: Recordings of a voice to continue with, each with what is said in it.

    Raises:
        ConfigError: if something cannot be loaded; the message says what can.
        DataError: if a checkpoint is damaged or a recording cannot be used.
    """
    model = open_model(token_lm, source, device=device, dtype=dtype, tokenizer=tokenizer)
    decoder = token_lm.load_codec(codec or model.codec or token_lm.codec, device=device)
    return TokenVoice(
        token_lm=token_lm,
        lm=model.lm,
        codec=decoder,
        # A softmax that was restricted in training says nothing of the other ids: they must not come.
        sampling=replace(sampling, constrain=HELD_TO[model.softmax]) if as_trained else sampling,
        tokenizer=model.tokenizer,
        speakers=model.speakers,
        languages=model.languages,
        # Encoded once, whatever number of texts follows.
        references=tuple((text, encode_reference(token_lm, file, decoder)) for file, text in references),
    )
