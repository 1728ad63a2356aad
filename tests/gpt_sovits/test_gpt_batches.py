"""Which rows are kept, and how they are dealt out."""

from __future__ import annotations

import pytest

from tests.gpt_sovits.upstream import share
from tts_train_gpt_sovits.stages.gpt.batches import (
    FilterOptions,
    UpstreamSampler,
    buckets,
    refusal,
    repeats,
    usable_batch_size,
)


@pytest.mark.parametrize(
    ("phonemes", "codes", "why"),
    [
        (100, 250, None),
        (30, 250, None),
        (29, 250, "2.9 phonemes a second are fewer than 3"),
        (250, 250, None),
        (251, 250, "25.1 phonemes a second are more than 25"),
        (540, 1350, None),
        (541, 1350, "541 phonemes are more than 540"),
        (500, 1351, "speech of 54.0 s is longer than 54 s"),
        (0, 250, "no phonemes"),
        (10, 0, "no codes"),
    ],
)
def test_rows_are_kept_or_left_out_with_a_reason(phonemes, codes, why):
    assert refusal(phonemes, codes) == why


def test_the_limits_can_be_moved():
    assert refusal(29, 250, FilterOptions(min_phonemes_per_second=2)) is None
    assert refusal(100, 250, FilterOptions(max_seconds=9)) == "speech of 10.0 s is longer than 9 s"


@pytest.mark.parametrize(("rows", "times"), [(0, 1), (1, 100), (33, 3), (49, 2), (50, 2), (99, 2), (100, 1), (1000, 1)])
def test_small_sets_are_repeated(rows, times):
    assert repeats(rows) == times


@pytest.mark.parametrize(
    ("given", "rows", "pairs", "size"),
    [(8, 1000, False, 8), (8, 1000, True, 4), (8, 20, False, 5), (8, 20, True, 4), (8, 3, False, 1), (1, 100, True, 1)],
)
def test_the_batch_size_fits_the_set(given, rows, pairs, size):
    assert usable_batch_size(given, rows, pairs=pairs) == size


def test_processes_share_the_rows_and_epochs_differ():
    seconds = [(7 * i % 23) / 2 + 0.3 for i in range(41)]
    shares = [share(seconds, 4, replicas=3, rank=rank, epoch=2) for rank in range(3)]
    assert {len(share) for share in shares} == {14}
    assert sorted({row for share in shares for row in share}) == list(range(41))
    one = UpstreamSampler(seconds, 4)
    assert sorted(one.indices(0)) == sorted(one.indices(1)) == list(range(41))
    assert one.indices(0) != one.indices(1)
    assert one.indices(1) == UpstreamSampler(seconds, 4).indices(1)
    assert [row for batch in one.batches(1) for row in batch] == one.indices(1)
    assert {len(batch) for batch in one.batches(1)[:-1]} == {4}


def test_a_batch_holds_rows_of_like_length():
    seconds = [float(i % 20) for i in range(400)]
    spread = [
        max(each) - min(each) for each in ([seconds[i] for i in b] for b in UpstreamSampler(seconds, 4).batches(0))
    ]
    assert sum(width < 2 for width in spread) > 0.85 * len(spread)


def test_a_gap_in_the_lengths_makes_narrow_buckets():
    assert buckets([0.5, 9.0, 9.1, 1.0]) == [[0, 3], [1], [2]]
    assert buckets([9.0]) == [[], [0]]
    assert buckets([]) == []
    assert UpstreamSampler([], 4).indices(0) == []
