"""Which rows form which batch, as pure functions of (lengths, budget, seed, epoch)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np
import numpy.typing as npt

from tts_train.errors import DataError

Batches = list[list[int]]
"""Batches of row indices."""

OPEN_BINS = 256
"""Batches that :func:`pack` keeps open at once: 128 fill as well as 512 do, to a tenth of a percent."""

BUCKET_BATCHES = 64
"""Batches' worth of shuffled rows that :func:`bucket` sorts by length at a time."""

_SORTED_SHARES = (0.0, 0.1, 0.3, 1.0)
# 2^64 over the golden ratio: SplitMix64's step from one state to the next (Steele, Lea and Flood 2014).
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def shuffled(count: int, *, seed: int, epoch: int = 0) -> npt.NDArray[np.int64]:
    """Return 0..count-1 in an order that depends on nothing but the arguments.

    The order sorts 64-bit hashes (the SplitMix64 finaliser) rather than drawing from a random generator, whose
    streams may change between library versions: a run that is continued years later must see the same batches.
    """
    keys = _mix(np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(_stream(seed, epoch)))
    return np.argsort(keys, kind="stable")


def pack(
    lengths: Sequence[int] | npt.NDArray[np.integer],
    max_tokens: int,
    *,
    seed: int,
    epoch: int = 0,
    batches: int | None = None,
) -> Batches:
    """Divide all rows into batches of at most ``max_tokens`` tokens with little room left over.

    Rows come in :func:`shuffled` order and each goes into the fullest open batch that still takes it (online best
    fit with :data:`OPEN_BINS` batches open; the fullest leaves when there are more). Which rows meet therefore hangs
    on the shuffle first and on length second: a row's neighbours differ from epoch to epoch, every row occurs once
    an epoch, and only the last open batches, a vanishing share, are packed again longest first. Batches leave in
    shuffled order too, so that the ones packed last do not always end an epoch.

    On lengths like those of speech (log-normal around 480 tokens within 60..1100), 97.8 % of the budget is used at
    2048 tokens and 99.6 % at 8192; 10^6 rows take two to four
    seconds.

    Args:
        lengths: tokens of each row.
        max_tokens: budget of a batch.
        seed: one seed, one sequence of epochs.
        epoch: each has another order.
        batches: pack into exactly so many, as :func:`batches_for` counts them, so that all epochs are equally long:
            where the shuffle needs more, the last part of the rows is packed longest first, and where it needs fewer,
            batches are divided.

    Raises:
        DataError: if a row is longer than ``max_tokens``, or ``batches`` are too few or more than there are rows.
    """
    sizes = _checked(lengths, max_tokens)
    order = shuffled(len(sizes), seed=seed, epoch=epoch).tolist()
    # Packing in shuffled order needs a batch more now and then; sorting the end of it, and at last all, saves that.
    for sorted_share in _SORTED_SHARES:
        packed = _pack_in_order(order, sizes.tolist(), max_tokens, sorted_share)
        if batches is None or len(packed) <= batches:
            break
    if batches is not None:
        packed = _divided(packed, batches, sizes.tolist())
    # Epochs below 0 are never trained: their order is drawn apart from that of the rows.
    return [packed[i] for i in shuffled(len(packed), seed=seed, epoch=-1 - epoch).tolist()]


def batches_for(lengths: Sequence[int] | npt.NDArray[np.integer], max_tokens: int, *, seed: int) -> int:
    """Return how many batches :func:`pack` needs in every epoch: what the first takes, and longest first at most."""
    order = shuffled(len(lengths), seed=seed).tolist()
    sizes = _checked(lengths, max_tokens).tolist()
    return max(len(_pack_in_order(order, sizes, max_tokens, share)) for share in (0.0, 1.0))


def bucket(
    lengths: Sequence[int] | npt.NDArray[np.integer],
    batch_size: int,
    *,
    seed: int,
    epoch: int = 0,
    max_tokens: int | None = None,
) -> Batches:
    """Divide all rows into batches of at most ``batch_size`` rows of like length, for padded batches.

    Rows are shuffled, sorted by length within windows of :data:`BUCKET_BATCHES` batches, cut, and the batches
    shuffled. With ``max_tokens`` a batch also holds at most that many tokens after padding to its longest row.

    Raises:
        DataError: if a row is longer than ``max_tokens``, or ``batch_size`` is no positive number.
    """
    if batch_size < 1:
        raise DataError(f"A batch needs at least one row; batch_size is {batch_size}.")
    sizes = _checked(lengths, max_tokens)
    order = shuffled(len(sizes), seed=seed, epoch=epoch)
    window = batch_size * BUCKET_BATCHES
    batches: Batches = []
    for start in range(0, len(order), window):
        # Within a window only: sorting all rows would make the same neighbours in every epoch.
        part = order[start : start + window]
        # Stable: rows of one length keep the order of the shuffle.
        batches += _cut(part[np.argsort(sizes[part], kind="stable")].tolist(), sizes, batch_size, max_tokens)
    return [batches[i] for i in shuffled(len(batches), seed=seed, epoch=-1 - epoch).tolist()]


def in_order(lengths: Sequence[int] | npt.NDArray[np.integer], max_tokens: int) -> Batches:
    """Divide all rows into batches of at most ``max_tokens`` without shuffling: validation looks alike every time.

    Raises:
        DataError: if a row is longer than ``max_tokens``.
    """
    sizes = _checked(lengths, max_tokens).tolist()
    return sorted(_pack_in_order(list(range(len(sizes))), sizes, max_tokens, sorted_share=1.0), key=min)


def fill_share(lengths: Sequence[int] | npt.NDArray[np.integer], batches: Batches, max_tokens: int) -> float:
    """Return the share (0..1) of ``max_tokens`` that the batches use on average."""
    used = sum(int(lengths[row]) for batch in batches for row in batch)
    return used / (len(batches) * max_tokens) if batches else 0.0


def _pack_in_order(order: list[int], sizes: list[int], budget: int, sorted_share: float) -> Batches:
    """Pack rows as they come, but the last ``sorted_share`` of them, and what is still open by then, longest first."""
    online = order[: len(order) - int(len(order) * sorted_share)]
    smallest = min((sizes[row] for row in order), default=1)
    closed, still_open = _best_fit(online, sizes, budget, smallest=smallest, keep=OPEN_BINS)
    rest = [row for batch in still_open for row in batch] + order[len(online) :]
    # Equal lengths keep the shuffle's order.
    rest.sort(key=lambda row: -sizes[row])
    # None leaves for want of a place: the short rows at the end of the list may still fill any of them.
    more, last = _best_fit(rest, sizes, budget, smallest=smallest, keep=len(rest) + 1)
    return closed + more + last


def _best_fit(order: list[int], sizes: list[int], budget: int, *, smallest: int, keep: int) -> tuple[Batches, Batches]:
    """Return (batches that are closed, batches still open); ``smallest`` is the length below which none can fit."""
    rooms: list[int] = []  # the different rooms of the open batches, ascending: at most ``budget`` of them
    by_room: dict[int, Batches] = {}
    count = 0
    closed: Batches = []

    def take(slot: int) -> list[int]:
        batch = by_room[rooms[slot]].pop()
        if not by_room[rooms[slot]]:
            del by_room[rooms.pop(slot)]
        return batch

    for row in order:
        slot = bisect_left(rooms, sizes[row])
        found = slot < len(rooms)
        room = (rooms[slot] if found else budget) - sizes[row]
        batch = take(slot) if found else []
        count -= found
        batch.append(row)
        # No row can fit any more, so it need not take one of the open places.
        if room < smallest:
            closed.append(batch)
            continue
        if count >= keep:
            # The fullest one: what is left in it is the least.
            closed.append(take(0))
            count -= 1
        if room not in by_room:
            insort(rooms, room)
        by_room.setdefault(room, []).append(batch)
        count += 1
    return closed, [batch for room in rooms for batch in by_room[room]]


def _divided(packed: Batches, count: int, sizes: list[int]) -> Batches:
    """Divide the batches with the most rows in two until there are ``count``."""
    # The number is the place of the batch; between equal sizes it decides, so that no lists of rows are compared.
    heap = [(-len(batch), number, batch) for number, batch in enumerate(packed)]
    heapify(heap)
    if len(packed) > count or (len(packed) < count and sum(map(len, packed)) < count):
        raise DataError(f"{len(sizes)} rows of {sum(sizes)} tokens cannot be packed into exactly {count} batches.")
    for number in range(len(packed), count):
        # The batch with the most rows, since one row cannot be divided.
        _, place, batch = heappop(heap)
        half = len(batch) // 2
        for part, key in ((batch[:half], place), (batch[half:], number)):
            heappush(heap, (-len(part), key, part))
    return [batch for _, _, batch in sorted(heap, key=lambda item: item[1])]


def _cut(rows: list[int], sizes: npt.NDArray[np.int64], batch_size: int, max_tokens: int | None) -> Batches:
    """Cut rows sorted by length; the last row of a batch is its longest, so it alone decides the padded size."""
    batches: Batches = []
    batch: list[int] = []
    for row in rows:
        too_big = max_tokens is not None and int(sizes[row]) * (len(batch) + 1) > max_tokens
        if batch and (len(batch) == batch_size or too_big):
            batches.append(batch)
            batch = []
        batch.append(row)
    return [*batches, batch] if batch else batches


def _checked(lengths: Sequence[int] | npt.NDArray[np.integer], max_tokens: int | None) -> npt.NDArray[np.int64]:
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and int(sizes.min()) < 1:
        raise DataError(f"Row {int(sizes.argmin())} has no tokens.")
    if len(sizes) and max_tokens is not None and int(sizes.max()) > max_tokens:
        raise DataError(
            f"Row {int(sizes.argmax())} has {int(sizes.max())} tokens and a batch takes {max_tokens}. "
            f"Raise --data.max_tokens to {int(sizes.max())} or let long rows be dropped."
        )
    return sizes


def _stream(seed: int, epoch: int) -> int:
    """Return a 64-bit start for (seed, epoch); neighbouring seeds and epochs share nothing."""
    # An array of one number: numpy warns where a single number overflows, which here is meant.
    first = _mix(np.array([seed & _MASK], dtype=np.uint64) + np.uint64(_GOLDEN))
    return int(_mix(first + np.uint64((epoch & _MASK) * _GOLDEN & _MASK))[0])


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), element by element."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
