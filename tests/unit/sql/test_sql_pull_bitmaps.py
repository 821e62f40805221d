import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import InvalidRequest
from pando.sql.pull_bitmaps import decode_bitmap


def encode(values, *, with_runs=False):
    """Write a bitmap as the format's description says; containers are runs where that is asked for."""
    by_high = {}
    for value in sorted(values):
        by_high.setdefault(value >> 16, []).append(value & 0xFFFF)
    count = len(by_high)
    if with_runs:
        head = struct.pack("<HH", 12347, count - 1) + bytes([255] * ((count + 7) // 8))
    else:
        head = struct.pack("<II", 12346, count)
    head += b"".join(struct.pack("<HH", high, len(lows) - 1) for high, lows in by_high.items())
    bodies = [runs_of(lows) if with_runs else container(lows) for lows in by_high.values()]
    if not with_runs or count >= 4:
        at = len(head) + 4 * count
        for body in bodies:
            head += struct.pack("<I", at)
            at += len(body)
    return head + b"".join(bodies)


def container(lows):
    if len(lows) <= 4096:
        return struct.pack(f"<{len(lows)}H", *lows)
    bits = bytearray(8192)
    for low in lows:
        bits[low // 8] |= 1 << low % 8
    return bytes(bits)


def runs_of(lows):
    runs = []
    for low in lows:
        if runs and runs[-1][0] + runs[-1][1] + 1 == low:
            runs[-1][1] += 1
        else:
            runs.append([low, 0])
    return struct.pack("<H", len(runs)) + b"".join(struct.pack("<HH", *run) for run in runs)


SETS = st.sets(st.integers(0, 9 << 16), min_size=1, max_size=60)


@given(SETS, st.booleans(), st.integers(0, 10 << 16))
def test_what_was_written_is_read(values, with_runs, limit):
    found = decode_bitmap(encode(values, with_runs=with_runs))
    assert list(found.below(limit)) == sorted(value for value in values if value < limit)


def test_dense_containers_and_long_runs():
    even = set(range(0, 20_000, 2))
    assert list(decode_bitmap(encode(even)).below(1 << 20)) == sorted(even)
    whole = set(range(1 << 17))
    assert list(decode_bitmap(encode(whole, with_runs=True)).below(1 << 20)) == list(range(1 << 17))
    assert list(decode_bitmap(struct.pack("<II", 12346, 0)).below(1 << 20)) == []


def test_a_short_text_that_names_everything_stays_small():
    head = struct.pack("<HH", 12347, 65_535) + bytes([255] * 8192)
    head += b"".join(struct.pack("<HH", high, 0xFFFF) for high in range(65_536)) + bytes(4 * 65_536)
    numbers = decode_bitmap(head + struct.pack("<HHH", 1, 0, 0xFFFF) * 65_536).below(1 << 32)
    assert [next(numbers) for _ in range(3)] == [0, 1, 2]


@given(st.binary(max_size=80))
def test_any_bytes_are_a_bitmap_or_refused(data):
    try:
        list(decode_bitmap(data).below(1000))
    except InvalidRequest:
        return


@given(SETS, st.booleans(), st.data())
def test_damaged_bitmaps_are_read_or_refused(values, with_runs, chance):
    data = bytearray(encode(values, with_runs=with_runs))
    for _ in range(chance.draw(st.integers(1, 3))):
        data[chance.draw(st.integers(0, len(data) - 1))] = chance.draw(st.integers(0, 255))
    data = bytes(data[: chance.draw(st.integers(0, len(data)))])
    try:
        found = list(decode_bitmap(data).below(1 << 18))
    except InvalidRequest:
        return
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too early"),
        (struct.pack("<I", 7), "begins with 7"),
        (struct.pack("<II", 12346, 70_000), "70000 containers"),
        (encode({1, 2}) + b"x", "follow"),
        (encode({1, 70_000})[:-1], "too early"),
        (encode({5, 9})[:-4] + struct.pack("<HH", 9, 5), "not in order"),
    ],
)
def test_refusals_say_why(data, reason):
    with pytest.raises(InvalidRequest, match=reason):
        decode_bitmap(data)
