"""Speech while it is generated: every frame at once, and the sound of the whole."""

import numpy as np
import torch

from tts_train.families.token_lm.speaking.voice import StreamDecoder, TokenVoice
from tts_train_qwen3_tts.codec.load import load_codec
from tts_train_qwen3_tts.layout import LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS


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


def test_what_continues_references_is_heard_behind_them():
    """Upstream decodes the reference in front and cuts it off: by itself, the first frames would sound otherwise."""
    codec = load_codec("tiny")
    codes = np.random.default_rng(0).integers(0, 2048, (16, 25))
    first, second, said = codes[:, :7], codes[:, 7:12], codes[:, 12:]
    references = tuple(("", LAYOUT.codes_to_tokens(each)) for each in (first, second))
    voice = TokenVoice(token_lm=QWEN3_TTS, lm=None, codec=codec, sampling=QWEN3_TTS.sampling, references=references)
    whole, size = codec.decode(codes), 13 * 1920
    assert torch.allclose(voice.sound(said, seed=0), whole[-size:], atol=1e-5)
    assert (codec.decode(said) - whole[-size:]).abs().max() > 1e-3
    tokens = [*LAYOUT.codes_to_tokens(said).tolist(), LAYOUT.end_of_speech]
    chunks = list(voice.stream_decoder(seed=0).decode(tokens))
    assert [len(chunk) for chunk in chunks] == [1920] * 13
    assert torch.allclose(torch.cat(chunks), whole[-size:], atol=1e-5)
    assert voice.sound(said[:, :0], seed=0).numel() == 0
