"""A batch of frames being continued: the backbone says the first code, the depth network the others, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from tts_train.errors import ConfigError, NumericError
from tts_train.families.token_lm.decoding.decoder import CachedDecoder, bucket
from tts_train.families.token_lm.decoding.sampling import penalise, sample
from tts_train.families.token_lm.model import Sampling
from tts_train.nn.reproducible import exponential_noise, seed_keys

if TYPE_CHECKING:
    from tts_train.families.token_lm.frames.layout import FrameLayout
    from tts_train.families.token_lm.layout import Ids


class FirstCodes:
    """What may begin a frame: the codes that the codec has, and the end of speech where it is no frame.

    Args:
        layout: Of the ids.
        matrix: The first codebook's output matrix (rows, H).
        batch: Rows of the batch.
        sampling: With the penalty on codes that were generated before.
    """

    def __init__(self, layout: FrameLayout, matrix: Tensor, batch: int, sampling: Sampling) -> None:
        self._layout, self._penalty = layout, sampling.repetition_penalty
        # The rows above the codes are the network's own, such as padding: the codec has no sound for them.
        self.rows = torch.arange(layout.codes, device=matrix.device)
        """Rows of the matrix (n,) that may be drawn."""
        self._matrix = matrix[: layout.codes]
        if not layout.end_is_frame:
            self.rows = torch.cat([self.rows, torch.full_like(self.rows[:1], layout.end_code)])
            # Copied once, as picking rows in every step would copy them in every step.
            self._matrix = matrix.index_select(0, self.rows)
        self.columns = torch.arange(len(self.rows), device=matrix.device)
        """(n,) from 0: what the noise of a draw is numbered by."""
        self._used = torch.zeros(batch, len(self.rows), dtype=torch.bool, device=matrix.device)

    def logits(self, hidden: Tensor, number: int) -> Tensor:
        """Return the logits (B, n) of frame ``number`` in float32 or wider, penalised."""
        raw = linear(hidden, self._matrix)
        made = penalise(raw.to(torch.promote_types(raw.dtype, torch.float32)), self._used, self._penalty)
        if number < self._layout.least_frames and not self._layout.end_is_frame:
            made[:, -1] = -torch.inf
        return made

    def note(self, rows: Tensor) -> None:
        """Remember the rows (B,) that were drawn."""
        self._used |= self.rows == rows[:, None]


class FrameDecoding:
    """Prompts that are continued frame by frame, each with random numbers of its own.

    Frame n of row r draws code k with noise of (seed of r, n * K + k, code). A row that has ended goes on without
    counting, so that shapes stay.

    Args:
        layout: Of its ids.
        lm: A ``FrameLM`` in evaluation mode.
        prompts: Rows of ids, whole frames among them perhaps.
        seeds: One for each prompt.
        limits: Most ids to generate for each prompt; only whole frames are generated.
        sampling: How codes are drawn; its penalty on repetition is for first codes that were generated before. Codes
            that the codec lacks are never drawn.

    Raises:
        ConfigError: if ``sampling`` has a penalty on repetition that the layout does not allow.
    """

    def __init__(
        self,
        layout: FrameLayout,
        lm: Any,  # noqa: ANN401 - a model of transformers
        prompts: Sequence[Ids],
        *,
        seeds: Sequence[int],
        limits: Sequence[int],
        sampling: Sampling,
    ) -> None:
        if sampling.repetition_penalty != 1 and not layout.repeats_penalised:
            raise ConfigError(
                f"--repetition_penalty {sampling.repetition_penalty:g}: a frame has {layout.slots} codes and most are "
                "used again and again. Give --repetition_penalty 1."
            )
        self._layout, self._lm, self._sampling = layout, lm, sampling
        self._device: torch.device = lm.lm_head.weight.device
        rows, books = len(prompts), layout.slots
        # A frame that is cut off has no sound.
        self._frames = [limit // books for limit in limits]
        sizes = [len(layout.starts(prompt)) for prompt in prompts]
        self._longest, self._most = max(sizes), max(sizes) + max(self._frames)
        self._lengths = torch.tensor(sizes, device=self._device)
        self._backbone = CachedDecoder(lm, rows, bucket(self._longest + 1, self._most), stack=lm.model)
        self._depth = CachedDecoder(lm, rows, bucket(books + 1, books + 1), stack=lm.depth)
        # Laid out once, as single draws multiply with it for every codebook of a frame.
        self._matrices = lm.depth_weight().view(books - 1, layout.codebook_size, -1)
        self._first = FirstCodes(layout, lm.lm_head.weight, rows, sampling)
        wrapped = [(seed + 2**63) % 2**64 - 2**63 for seed in seeds]
        self._seeds = seed_keys(torch.tensor(wrapped, dtype=torch.int64, device=self._device)[:, None])
        self._prompts = self._embedded(prompts)

    def tokens(self, *, chunk: int = 1) -> Iterator[dict[int, int]]:
        """Yield, for each id, that of every row that has not ended before: K times for a frame, once for the end.

        Raises:
            NumericError: if the network gives values that are not finite.
        """
        del chunk  # every frame is read
        open_rows = {row for row, frames in enumerate(self._frames) if frames}
        hidden = self._backbone.read(self._prompts, self._lengths)
        for number in range(max(self._frames)):
            codes = self._frame(hidden, number)
            # The one wait in a frame: whether a row has ended decides what is yielded.
            drawn = codes.tolist()
            ended = {row for row in open_rows if self._ends(drawn[row])}
            for slot in range(self._layout.slots):
                said = {row: self._id(drawn[row][slot], slot) for row in open_rows - ended}
                said |= {row: self._layout.end_of_speech for row in ended if not slot}
                if said:
                    yield said
            open_rows = {row for row in open_rows - ended if number + 1 < self._frames[row]}
            if not open_rows:
                return
            hidden = self._advance(codes, number)

    def _ends(self, frame: Sequence[int]) -> bool:
        # Where all codebooks say the end, the code is in each of them an ordinary one as well.
        says = frame if self._layout.end_is_frame else frame[:1]
        return all(code == self._layout.end_code for code in says)

    def _id(self, code: int, slot: int) -> int:
        return self._layout.audio_base + slot * self._layout.codebook_size + code

    def _embedded(self, prompts: Sequence[Ids]) -> Tensor:
        """Return the embeddings (B, T, H) of prompts, padded on the right."""
        from tts_train.families.token_lm.data.batch import Document
        from tts_train.families.token_lm.frames.batch import pad_frames
        from tts_train.families.token_lm.frames.network import embed

        batch = pad_frames([Document("", prompt) for prompt in prompts], self._layout)
        ids, places, codes = (batch[name].to(self._device) for name in ("input_ids", "frame_places", "codes"))
        return embed(self._lm, ids, places, codes)

    def _advance(self, codes: Tensor, number: int) -> Tensor:
        """Add frame ``number`` (B, K) to the cache and return the states (B, H)."""
        span = self._longest + number + 1
        if span > self._backbone.places:
            self._backbone.grow(bucket(span, self._most))
        # Rows that have ended are read on: shapes stay, and nobody hears them.
        frames: Tensor = self._lm.embed_frames(codes)
        return self._backbone.step(frames, self._lengths + number, span=span)

    def _frame(self, hidden: Tensor, number: int) -> Tensor:
        """Draw the codes (B, K) of a frame from the backbone's states (B, H)."""
        books = self._layout.slots
        codes = [self._draw_first(hidden, number)]
        begin, first = self._lm.depth_state(hidden)[:, None], self._lm.depth_codes(codes[0][:, None])
        # It begins anew in each frame, and writes its cache over from place 0.
        state = self._depth.read(torch.cat([begin, first], dim=1), torch.full_like(codes[0], 2))
        for book in range(1, books):
            codes.append(self._draw(state, self._matrices[book - 1], number * books + book))
            # The last code is read by the backbone alone.
            if book + 1 < books:
                read = self._lm.depth_codes(codes[book][:, None], book)[:, 0]
                state = self._depth.step(read, torch.full_like(codes[0], book + 1), span=book + 2)
        return torch.stack(codes, dim=1)

    def _draw_first(self, hidden: Tensor, number: int) -> Tensor:
        """Draw the rows of the first codebook's matrix (B,) that frame ``number`` begins with."""
        logits = self._first.logits(hidden, number)
        rows: Tensor = self._first.rows[self._drawn(logits, number * self._layout.slots)]
        self._first.note(rows)
        return rows

    def _draw(self, hidden: Tensor, matrix: Tensor, step: int) -> Tensor:
        """Draw the codes (B,) of another codebook."""
        return self._drawn(linear(hidden, matrix[: self._layout.codes]).float(), step)

    def _drawn(self, logits: Tensor, step: int) -> Tensor:
        if not torch.isfinite(logits.amax()):
            raise NumericError("The network gives values that are not finite; the weights or their type are broken.")

        def noise(columns: Tensor | None) -> Tensor:
            every = self._first.columns[: logits.shape[-1]]
            return exponential_noise(self._seeds, step, every if columns is None else columns)

        return sample(logits, self._sampling, noise)
