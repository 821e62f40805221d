"""The bytes of log segments: round trips, and every kind of damage told apart."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_entries import chain, entry_after

from pando.errors import InvariantError, LogCorruption
from pando.limits import ENTRY_TABLES_BYTES_MAX
from pando.store.segments import (
    FIXED_SIZE,
    HEADER_SIZE,
    TRAILER_SIZE,
    LogEntry,
    SegmentScan,
    Verdict,
    decode_entry,
    decode_header,
    encode_entry,
    encode_header,
    read_last_entry,
)
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position

_U64 = st.integers(0, 2**64 - 1)
_POSITIONS = st.builds(Position, epoch=_U64, txid=_U64, checksum=_U64)
_ENTRIES = st.builds(
    LogEntry,
    epoch=_U64,
    min_txid=_U64,
    max_txid=_U64,
    pre_checksum=_U64,
    post_checksum=_U64,
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    tables=st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), max_size=5).map(tuple),
    payload=st.binary(max_size=300),
)
BASE = Position(epoch=Epoch(3), txid=TXID(40), checksum=Checksum(1 << 63 | 7))


def _segment(count: int, *, size: int = 40, synced: bool = True) -> tuple[bytes, list[LogEntry], list[int]]:
    """A segment, its entries, and where each begins. `synced`: each entry was synced before the next was written."""
    data = encode_header(BASE)
    entries, offsets = list(chain(count, after=BASE, size=size)), []
    for entry in entries:
        offsets.append(len(data))
        data += encode_entry(entry, len(data), len(data) if synced else HEADER_SIZE)
    return data, entries, offsets


def _scan(data: bytes, *, payloads: bool = True) -> tuple[SegmentScan, list]:
    scan = SegmentScan(
        lambda offset, size: data[offset : offset + size],
        len(data),
        offset=HEADER_SIZE,
        position=BASE,
        payloads=payloads,
    )
    return scan, list(scan)


@given(_POSITIONS)
def test_header_round_trip(base):
    data = encode_header(base)
    assert len(data) == HEADER_SIZE
    assert decode_header(data + b"more") == base


def test_header_damage_is_corruption():
    data = encode_header(BASE)
    for size in range(HEADER_SIZE):
        with pytest.raises(LogCorruption):
            decode_header(data[:size])
    for at in range(HEADER_SIZE):
        for flip in (0x01, 0x80, 0xFF):
            with pytest.raises(LogCorruption):
                decode_header(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])


@given(_ENTRIES, st.integers(0, 2**40), st.binary(max_size=40))
def test_entry_round_trip(entry, offset, before):
    data = before + encode_entry(entry, offset, offset)
    assert decode_entry(data, len(before), offset) == entry
    assert decode_entry(data + b"more", len(before), offset) == entry
    assert decode_entry(data, len(before), offset + 1) is None, "an entry belongs to its place"


def test_layout_is_as_documented():
    entry = entry_after(BASE, size=5)
    data = encode_entry(entry, 64, 63)
    assert data[:4] == b"PLE1"
    tables = "\0".join(entry.tables).encode()
    assert struct.unpack_from(">II4xQQQQQQQq", data, 4) == (
        len(tables), 5, 64, 63, entry.epoch, entry.min_txid, entry.max_txid,
        entry.pre_checksum, entry.post_checksum, entry.timestamp_ms,
    )  # fmt: skip
    assert data[FIXED_SIZE : FIXED_SIZE + len(tables)] == tables
    assert data[-8:] == struct.pack(">I", len(data)) + b"1ELP"
    assert data[-13:-8] == entry.payload
    assert encode_header(BASE)[:12] == b"PANDOLOG\0\0\0\1"


def test_more_tables_than_fit_mean_any_table():
    entry = entry_after(NO_POSITION)
    many = tuple(f"table_{number:06}" for number in range(ENTRY_TABLES_BYTES_MAX // 10))
    found = decode_entry(encode_entry(_with(entry, tables=many), 0, 0), 0, 0)
    assert found == _with(entry, tables=())


def _with(entry: LogEntry, **changes: object) -> LogEntry:
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return LogEntry(**fields | changes)


def test_numbers_that_do_not_fit_are_refused():
    for changes in ({"timestamp_ms": 2**63}, {"max_txid": -1}, {"epoch": 2**64}):
        with pytest.raises(InvariantError):
            encode_entry(_with(entry_after(NO_POSITION), **changes), 0, 0)


@pytest.mark.parametrize("payloads", [True, False])
def test_scan_of_a_whole_segment_is_clean(payloads):
    data, entries, offsets = _segment(2000, size=300)
    scan, found = _scan(data, payloads=payloads)
    assert scan.verdict is Verdict.CLEAN
    assert scan.offset == len(data)
    assert [(info.offset, info.position) for info in found] == list(
        zip(offsets, [entry.position for entry in entries], strict=True)
    )


def test_scan_reads_entries_larger_than_its_chunk():
    data, _, _ = _segment(3, size=700_000)
    scan, found = _scan(data)
    assert scan.verdict is Verdict.CLEAN
    assert [info.payload_size for info in found] == [700_000] * 3
    torn, found = _scan(data[:-1])
    assert (torn.verdict, len(found)) == (Verdict.TORN, 2)


def test_truncation_at_every_byte_is_a_torn_tail_or_a_clean_end():
    data, _, offsets = _segment(3)
    ends = [*offsets[1:], len(data)]
    for size in range(HEADER_SIZE, len(data) + 1):
        scan, found = _scan(data[:size])
        whole = [end for end in ends if end <= size]
        assert len(found) == len(whole)
        assert scan.offset == (whole[-1] if whole else HEADER_SIZE)
        assert scan.verdict is (Verdict.CLEAN if size == scan.offset else Verdict.TORN)


def test_a_flip_of_every_byte_is_corruption_except_in_the_last_entry():
    data, _, offsets = _segment(3)
    for at in range(HEADER_SIZE, len(data)):
        for flip in (0x01, 0x80, 0xFF):
            scan, found = _scan(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            hit = sum(offset <= at for offset in offsets) - 1
            assert len(found) == hit
            assert scan.offset == offsets[hit]
            assert scan.verdict is (Verdict.TORN if hit == 2 else Verdict.CORRUPT), (at, flip, scan.reason)


def test_a_bad_entry_that_had_not_been_synced_is_a_torn_tail_whatever_is_behind():
    data, _, offsets = _segment(3, synced=False)
    for at in range(HEADER_SIZE, len(data)):
        scan, found = _scan(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        assert scan.verdict is Verdict.TORN
        assert len(found) == sum(offset <= at for offset in offsets) - 1


def test_zeros_and_noise_behind_the_last_entry_are_a_torn_tail():
    data, _, _ = _segment(2)
    for rest in (b"\0", bytes(5000), b"PLE1" * 400, b"x" * 300_000, data[HEADER_SIZE:]):
        scan, found = _scan(data + rest)
        assert (scan.verdict, len(found)) == (Verdict.TORN, 2)


def test_a_copy_of_the_log_inside_a_torn_payload_is_not_taken_for_entries():
    data, entries, _ = _segment(3)
    inside = b"".join(encode_entry(entry, HEADER_SIZE, 1 << 40) for entry in entries)
    entry = _with(entry_after(entries[-1].position), payload=inside)
    torn = data + encode_entry(entry, len(data), len(data))[:-1]
    scan, found = _scan(torn)
    assert (scan.verdict, len(found)) == (Verdict.TORN, 3)


def test_an_entry_that_does_not_follow_is_corruption():
    data, entries, _ = _segment(2)
    for stranger in (
        entry_after(NO_POSITION),
        _with(entry_after(entries[-1].position), pre_checksum=5),
        _with(entry_after(entries[-1].position), epoch=0),
    ):
        scan, found = _scan(data + encode_entry(stranger, len(data), len(data)))
        assert (scan.verdict, len(found)) == (Verdict.CORRUPT, 2)
        assert "does not follow" in scan.reason


def test_damage_is_found_across_chunks():
    data, _, offsets = _segment(40, size=30_000)
    damaged = data[: offsets[3] + 20] + b"\xff" + data[offsets[3] + 21 :]
    last_only = damaged[: offsets[4]] + bytes(offsets[39] - offsets[4]) + damaged[offsets[39] :]
    scan, found = _scan(last_only)
    assert (scan.verdict, len(found)) == (Verdict.CORRUPT, 3)


def test_last_entry_is_found_from_the_end():
    data, entries, offsets = _segment(3)

    def pread(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    for count in range(4):
        end = [*offsets, len(data)][count]
        info = read_last_entry(pread, end)
        assert (info.position if info else BASE) == (entries[count - 1].position if count else BASE)
    for size in range(len(data)):
        if size not in offsets:
            assert read_last_entry(pread, size) is None


def test_a_damaged_last_entry_is_not_found_from_the_end():
    data, _, offsets = _segment(2)
    for at in range(offsets[1], len(data)):
        bad = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        assert read_last_entry(lambda offset, size, bad=bad: bad[offset : offset + size], len(bad)) is None
    assert TRAILER_SIZE == 8
