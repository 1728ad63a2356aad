"""Rows and prompts, id by id."""

from __future__ import annotations

import numpy as np
import pytest

from tts_train.errors import DataError
from tts_train_orpheus.prompt import encode_text, inference_prompt, speech_row, text_row, voice_text, zero_shot_prompt
from tts_train_orpheus.tokenizer import tiny_tokenizer

TEXT, AUDIO = [128000, 7, 8], list(range(128266, 128266 + 7 * 4096, 4096))
PROMPT = [128259, 128000, 7, 8, 128009, 128260, 128261, 128257]


def test_a_speech_row_is_the_prompt_the_sound_and_both_ends():
    row = speech_row(TEXT, np.array(AUDIO))
    assert row.input_ids.tolist() == [*PROMPT, *AUDIO, 128258, 128262]
    assert row.input_ids[row.spoken].tolist() == [*AUDIO, 128258, 128262]
    assert row.prompt == len(PROMPT)


def test_the_inference_prompt_is_the_rows_beginning():
    assert inference_prompt(TEXT).tolist() == PROMPT


def test_a_zero_shot_prompt_repeats_whole_rows_before_the_text():
    reference = [*PROMPT, *AUDIO, 128258, 128262]
    assert zero_shot_prompt([(TEXT, AUDIO)] * 2, TEXT).tolist() == [*reference, *reference, *PROMPT]
    assert zero_shot_prompt([], TEXT).tolist() == PROMPT


def test_a_text_row_has_an_answer_in_place_of_sound():
    answer = [128000, 9]
    turn = [128259, *TEXT, 128009, 128260, 128261, *answer, 128009, 128262]
    row = text_row(TEXT, answer)
    assert row.input_ids.tolist() == turn
    assert row.input_ids[row.spoken].tolist() == [*answer, 128009, 128262]
    assert text_row(TEXT, answer, [128000, 5]).input_ids.tolist() == [128264, 128000, 5, 128009, 128265, *turn]


def test_a_voice_stands_before_the_text():
    assert voice_text("Hello.", "tara") == "tara: Hello."
    assert voice_text("Hello.") == "Hello."


def test_text_is_encoded_with_its_voice_after_bos():
    tokenizer = tiny_tokenizer()
    ids = encode_text(tokenizer, "Ohé <laugh>", "tara")
    assert ids[0] == 128000
    assert max(ids[1:]) < 256
    assert tokenizer.decode(ids[1:]) == "tara: Ohé <laugh>"
    with pytest.raises(DataError, match="custom_token_2"):
        encode_text(tokenizer, "Stop <custom_token_2> now")


def test_a_tokenizer_without_bos_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(DataError, match="must start with BOS"):
        encode_text(tokenizer, "a")
