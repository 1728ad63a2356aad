"""Sound while the model still speaks: each frame decoded in the smallest window that gives the whole clip's samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from tts_train.errors import ConfigError
from tts_train.families.token_lm.codec import Codec
from tts_train.families.token_lm.frame_reader import FrameReader
from tts_train.families.token_lm.layout import TokenLayout


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
    """

    def __init__(self, layout: TokenLayout, codec: Codec, *, seed: int | None = 0, chunk_frames: int = 1) -> None:
        if chunk_frames < 1:
            raise ConfigError(f"chunk_frames must be 1 or more, not {chunk_frames}.")
        self.reader = FrameReader(layout)
        """Counts ids that were no sound; ``reader.ended`` says whether the model ended by itself."""
        self._layout, self._codec, self._seed, self._chunk_frames = layout, codec, seed, chunk_frames
        self._window: list[tuple[int, ...]] = []
        self._window_start = 0
        self._emitted = 0

    def decode(self, tokens: Iterable[int]) -> Iterator[Tensor]:
        """Yield 1-D float32 chunks of whole frames, up to the end of speech or the end of ``tokens``."""
        for token in tokens:
            frame = self.reader.push(int(token))
            if frame is not None:
                self._window.append(frame)
                yield from self._emit(self._arrived - self._codec.context_frames, at_least=self._chunk_frames)
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
        levels = self._layout.tokens_to_codes([token for frame in self._window for token in frame])
        sound = self._codec.decode(levels, seed=self._seed, first_frame=self._window_start)
        size = self._codec.frame_samples
        yield sound[(self._emitted - self._window_start) * size : (until - self._window_start) * size]
        self._emitted = until
        past = max(0, until - self._codec.context_frames - self._window_start)
        self._window = self._window[past:]
        self._window_start += past
