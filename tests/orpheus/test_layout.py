"""Token ids and frames: the arithmetic both ways, and what a model's faulty output turns into."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tts_train.errors import DataError
from tts_train_orpheus import layout
from tts_train_orpheus.layout import (
    codes_to_tokens,
    drop_repeated_frames,
    kind_of,
    read_generated,
    slot_of,
    tokens_to_codes,
)


def random_levels(frames, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, layout.CODEBOOK_SIZE, frames * rate) for rate in layout.LEVEL_RATES)


def test_one_frame_is_interleaved_as_written_in_the_format():
    tokens = codes_to_tokens([[1], [2, 3], [4, 5, 6, 7]])
    assert (tokens - layout.AUDIO_BASE).tolist() == [
        1, 4096 + 2, 8192 + 4, 12288 + 5, 16384 + 3, 20480 + 6, 24576 + 7,
    ]  # fmt: skip


def test_the_ids_fit_the_vocabulary():
    assert layout.AUDIO_END == layout.CUSTOM_BASE + layout.CUSTOM_TOKENS - 1
    assert layout.CUSTOM_BASE + layout.CUSTOM_TOKENS == layout.AUDIO_MARK == layout.VOCAB_SIZE - 1
    assert layout.TOKENS_PER_SECOND == 82.03125


@pytest.mark.parametrize("frames", [0, 1, 2, 57])
def test_codes_survive_both_ways(frames):
    levels = random_levels(frames)
    back = tokens_to_codes(codes_to_tokens(levels))
    assert [level.tolist() for level in back] == [level.tolist() for level in levels]


@pytest.mark.parametrize("levels", [[], [[1], [2], [3]], [[1], [2, 3], [4, 5, 6]], [[1], [2, 3]]])
def test_levels_that_do_not_fit_are_named(levels):
    with pytest.raises(DataError, match=r"n, 2n and 4n"):
        codes_to_tokens(levels)


@pytest.mark.parametrize("code", [-1, 4096])
def test_a_code_outside_the_codebook_is_named(code):
    with pytest.raises(DataError, match=str(code)):
        codes_to_tokens([[0], [0, code], [0, 0, 0, 0]])


def test_strict_reading_names_the_first_wrong_id():
    tokens = codes_to_tokens(random_levels(3)).tolist()
    tokens[9] = tokens[8]
    with pytest.raises(DataError, match=r"position 9 is an audio id of slot 1, and slot 2 is due.*1 of 21"):
        tokens_to_codes(tokens)
    tokens[9] = layout.END_OF_SPEECH
    with pytest.raises(DataError, match="no audio id"):
        tokens_to_codes(tokens)
    with pytest.raises(DataError, match="6 over"):
        tokens_to_codes(tokens[:-1])


def test_repeated_frames_go_whole_and_only_where_the_first_token_repeats():
    levels = random_levels(6)
    levels[0][:] = [5, 5, 5, 9, 5, 5]
    frames = codes_to_tokens(levels).reshape(-1, 7)
    kept, dropped = drop_repeated_frames(frames.reshape(-1))
    assert dropped == 3
    assert kept.tolist() == frames[[0, 3, 4]].reshape(-1).tolist()


def test_dropping_agrees_with_a_walk_against_the_last_kept_frame():
    for seed in range(20):
        levels = random_levels(40, seed)
        levels[0][:] %= 3
        frames = codes_to_tokens(levels).reshape(-1, 7).tolist()
        walked = frames[:1]
        for frame in frames[1:]:
            if frame[0] != walked[-1][0]:
                walked.append(frame)
        kept, dropped = drop_repeated_frames(np.concatenate([np.array(f) for f in frames]))
        assert kept.reshape(-1, 7).tolist() == walked
        assert dropped == 40 - len(walked)


def test_slot_and_kind_say_the_same_of_ints_arrays_and_tensors():
    ids = [-100, 0, 127999, 128000, 128265, 128266, 128266 + 4096, 156937, 156938, 156939]
    slots = [-1, -1, -1, -1, -1, 0, 1, 6, -1, -1]
    kinds = [-1, 0, 0, 1, 1, 2, 2, 2, 1, 1]
    for given in (np.array(ids), torch.tensor(ids)):
        assert slot_of(given).tolist() == slots
        assert kind_of(given).tolist() == kinds
    assert [slot_of(i) for i in ids] == slots
    assert [kind_of(i) for i in ids] == kinds


def test_a_clean_output_is_read_whole():
    levels = random_levels(4)
    prompt = [layout.START_OF_HUMAN, 128000, 65, layout.END_OF_TURN, layout.START_OF_SPEECH]
    got = read_generated([*prompt, *codes_to_tokens(levels), layout.END_OF_SPEECH, layout.END_OF_AI])
    assert [level.tolist() for level in got.codes] == [level.tolist() for level in levels]
    assert (got.errors, got.ended, got.frames) == (0, True, 4)


def test_code_zero_is_a_code():
    got = read_generated(codes_to_tokens([[0], [0, 0], [0, 0, 0, 0]]))
    assert (got.frames, got.errors) == (1, 0)


def test_faults_are_counted_and_reading_goes_on_at_the_next_frame():
    frames = codes_to_tokens(random_levels(4)).reshape(-1, 7).tolist()
    missing_one = frames[1][:3] + frames[1][4:]
    text_between = [*frames[2][:4], 65, *frames[2][4:]]
    got = read_generated([*frames[0], *missing_one, *text_between, *frames[3][:5]])
    assert codes_to_tokens(got.codes).reshape(-1, 7).tolist() == [frames[0], frames[2]]
    assert (got.wrong_slot, got.not_audio, got.incomplete, got.ended) == (3, 1, 2, False)
    assert "3 ids in the wrong slot" in str(got)


def test_a_frame_that_begins_early_is_kept():
    frames = codes_to_tokens(random_levels(2)).reshape(-1, 7).tolist()
    got = read_generated([*frames[0][:3], *frames[1]])
    assert codes_to_tokens(got.codes).tolist() == frames[1]
    assert (got.wrong_slot, got.incomplete) == (1, 1)


def test_nothing_generated_is_no_frames():
    assert read_generated([]).frames == 0


def test_places_tell_apart_what_may_stand_where():
    ids = np.arange(layout.CUSTOM_BASE - 5, layout.VOCAB_SIZE)
    places = layout.place_of(ids)
    slots = slot_of(ids)
    assert (places[slots >= 0] == slots[slots >= 0]).all()
    assert layout.place_of(layout.END_OF_SPEECH) == 0
    controls = [int(i) for i in ids[places == layout.CONTROL_PLACE]]
    assert controls == [i for i in range(layout.CUSTOM_BASE, layout.AUDIO_BASE) if i != layout.END_OF_SPEECH]
    assert (places[ids < layout.CUSTOM_BASE] == layout.OTHER_PLACE).all()
    assert layout.place_of(layout.AUDIO_MARK) == layout.OTHER_PLACE
    assert torch.equal(layout.place_of(torch.from_numpy(ids)), torch.from_numpy(places))
    assert [layout.place_of(int(i)) for i in ids[:50]] == places[:50].tolist()
