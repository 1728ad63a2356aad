"""Qwen3-TTS's positions as ids: text alone, text over the codec's pad, items of the codec's table, vectors, frames."""

from __future__ import annotations

from dataclasses import dataclass

from tts_train.families.token_lm import FrameLayout

CODEBOOKS, CODES, CODEC_ROWS, TEXT_ROWS = 16, 2048, 3072, 151936
VOICES = 1 << 20
"""Ids for vectors of the speaker encoder, more than any set has recordings."""
PAD, BOS, EOS, THINK, NOTHINK, THINK_BOS, THINK_EOS = 100, 101, 102, 106, 107, 108, 109
"""Rows of the codec's table, counted from the first that is no code."""


@dataclass(frozen=True, kw_only=True)
class Qwen3TTSLayout(FrameLayout):
    """The ids of a position, which is a sum of a text channel and a codec channel.

    From 0 on a text row alone; from :attr:`spoken_base` on a text row over the codec's pad; from :attr:`rows_base` on a
    row of the codec's table under the text's pad; from :attr:`voice_base` on a vector under the text's pad; from
    ``audio_base`` on the codes of frames, which stand under the text's pad as well.
    """

    text_rows: int
    """Rows of the text table."""
    tts_pad: int
    """Text row that stands where nothing is read out."""
    tts_bos: int
    """Text row before the text that is read out."""
    tts_eos: int
    """Text row behind it."""

    @property
    def spoken_base(self) -> int:
        """Id of text row 0 over the codec's pad."""
        return self.text_rows

    @property
    def voice_base(self) -> int:
        """Id of vector 0."""
        return self.rows_base + self.output_rows

    def row(self, special: int) -> int:
        """Return the row of the codec's table of :data:`PAD` and the like."""
        return self.codes + special

    def item(self, row: int) -> int:
        """Return the id of a row of the codec's table under the text's pad."""
        return self.rows_base + row

    @property
    def text_begins(self) -> int:
        """Id of the position behind which the text that is read out begins."""
        return self.spoken_base + self.tts_bos


def layout_of(
    *,
    text_rows: int = TEXT_ROWS,
    codes: int = CODES,
    rows: int = CODEC_ROWS,
    books: int = CODEBOOKS,
    tts: tuple[int, int, int] = (151671, 151672, 151673),
    im_start: int = 151644,
    im_end: int = 151645,
) -> Qwen3TTSLayout:
    """Return the layout of a model of some size.

    Args:
        text_rows: Rows of the text table.
        codes: Codes of each codebook.
        rows: Rows of the codec's table and of the first codebook's output matrix.
        books: Codebooks.
        tts: Text rows of the pad, the beginning and the end of what is read out.
        im_start: Text row that begins a turn.
        im_end: Text row that ends it.
    """
    pad, bos, eos = tts
    # Each text row has two ids: alone, and over the codec's pad.
    items = 2 * text_rows
    return Qwen3TTSLayout(
        vocab_size=items + rows + VOICES + books * codes,
        text_tokens=items,
        added_base=items,
        audio_base=items + rows + VOICES,
        codebook_size=codes,
        codes=codes,
        slot_levels=tuple(range(books)),
        sample_rate=24000,
        frame_samples=1920,
        start_of_speech=items + codes + BOS,
        end_of_speech=items + codes + EOS,
        begin_of_text=im_start,
        pad=items + codes + PAD,
        text_pad=pad,
        end_of_turn=im_end,
        end_of_row=items + codes + EOS,
        end_code=codes + EOS,
        end_is_frame=False,
        first_rows=rows,
        rows_base=items,
        depth_share=0.3,
        repeats_penalised=True,
        least_frames=2,
        text_rows=text_rows,
        tts_pad=pad,
        tts_bos=bos,
        tts_eos=eos,
    )


LAYOUT = layout_of()
"""12.5 frames a second."""
