"""Speech while it is generated: every frame at once, and the sound of the whole."""

import torch

from tts_train.families.token_lm.speaking.voice import StreamDecoder
from tts_train_qwen3_tts.codec.load import load_codec
from tts_train_qwen3_tts.layout import LAYOUT


def test_a_frame_is_heard_as_soon_as_it_is_there():
    codec = load_codec("tiny")
    codes = [torch.randint(0, 2048, (30,), generator=torch.Generator().manual_seed(book)).numpy() for book in range(16)]
    tokens = LAYOUT.codes_to_tokens(codes).tolist()
    read = 0

    def said():
        nonlocal read
        for token in (*tokens, LAYOUT.end_of_speech):
            read += 1
            yield token

    chunks, heard = [], []
    for chunk in StreamDecoder(LAYOUT, codec).decode(said()):
        chunks.append(chunk)
        heard.append(read)
    assert heard == [16 * (frame + 1) for frame in range(30)]
    assert [len(chunk) for chunk in chunks] == [1920] * 30
    assert torch.allclose(torch.cat(chunks), codec.decode(codes), atol=1e-5)
