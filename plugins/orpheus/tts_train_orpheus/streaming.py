"""Sound while the model still speaks: each frame decoded in the smallest window that gives the whole clip's samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from tts_train.errors import ConfigError
from tts_train_orpheus.codec import Codec
from tts_train_orpheus.layout import FrameReader, tokens_to_codes

CONTEXT = 3
"""Frames that SNAC's decoder reaches on either side: a code changes samples up to 2.3 frames away."""


class StreamDecoder:
    """Turns one utterance's ids into chunks of sound as they come.

    Every frame is emitted once, the first and the last included, and equals the same frame of a whole decode with the
    same seed to rounding. The sound of a frame can begin when 3 more frames are there (0.26 s of speech later).

    Args:
        codec: the codec that decodes.
        seed: the noise's seed; None decodes without noise.
        chunk_frames: frames to wait for before decoding again. A chunk of n frames costs a decode of n + 6, so 1 is
            the soonest and larger is cheaper.
    """

    def __init__(self, codec: Codec, *, seed: int | None = 0, chunk_frames: int = 1) -> None:
        if chunk_frames < 1:
            raise ConfigError(f"chunk_frames must be 1 or more, not {chunk_frames}.")
        self.reader = FrameReader()
        """Counts ids that were no sound; ``reader.ended`` says whether the model ended by itself."""
        self._codec, self._seed, self._chunk_frames = codec, seed, chunk_frames
        self._window: list[tuple[int, ...]] = []
        self._window_start = 0
        self._emitted = 0

    def decode(self, tokens: Iterable[int]) -> Iterator[Tensor]:
        """Yield 1-D float32 chunks of whole frames, up to END_OF_SPEECH or the end of ``tokens``."""
        for token in tokens:
            frame = self.reader.push(int(token))
            if frame is not None:
                self._window.append(frame)
                yield from self._emit(self._arrived - CONTEXT, at_least=self._chunk_frames)
            if self.reader.ended:
                break
        self.reader.close()
        yield from self._emit(self._arrived, at_least=1)

    @property
    def _arrived(self) -> int:
        return self._window_start + len(self._window)

    def _emit(self, until: int, *, at_least: int) -> Iterator[Tensor]:
        """Decode the window and yield the frames from the last one emitted to ``until``, if they are enough."""
        if until - self._emitted < at_least:
            return
        levels = tokens_to_codes([token for frame in self._window for token in frame])
        sound = self._codec.decode(levels, seed=self._seed, first_frame=self._window_start)
        size = self._codec.frame_samples
        yield sound[(self._emitted - self._window_start) * size : (until - self._window_start) * size]
        self._emitted = until
        past = max(0, until - CONTEXT - self._window_start)
        self._window = self._window[past:]
        self._window_start += past
