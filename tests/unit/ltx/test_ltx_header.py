import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import LtxError
from pando.ltx import HEADER_SIZE, Encoding, HeaderFlags, LtxHeader, Trailer
from pando.types import EMPTY_CHECKSUM

FLAG = 1 << 63
DELTA = LtxHeader(page_size=4096, commit=9, min_txid=5, max_txid=7, timestamp_ms=-1, pre_apply_checksum=FLAG | 5)
SNAPSHOT = LtxHeader(page_size=512, commit=9, min_txid=1, max_txid=7)

u32, u64, i63 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(1, 2**63 - 1)


@st.composite
def headers(draw):
    low, high = sorted((draw(u64) or 1, draw(u64) or 1))
    no_checksum = draw(st.booleans())
    return LtxHeader(
        page_size=1 << draw(st.integers(9, 16)),
        commit=draw(u32) or 1,
        min_txid=low,
        max_txid=high,
        timestamp_ms=draw(st.integers(-(2**63), 2**63 - 1)),
        pre_apply_checksum=0 if low == 1 or no_checksum else draw(u64) | FLAG,
        flags=2 if no_checksum else 0,
        wal_offset=draw(i63),
        wal_size=draw(i63),
        wal_salt1=draw(u32),
        wal_salt2=draw(u32),
        node_id=draw(u64),
    )


@given(headers())
def test_round_trip(header):
    data = header.encode()
    assert len(data) == HEADER_SIZE
    assert LtxHeader.decode(data) == header


def test_known_bytes():
    header = dataclasses.replace(DELTA, wal_offset=32, wal_size=64, wal_salt1=1, wal_salt2=2, node_id=3)
    assert header.encode().hex() == (
        "4c545831 00000000 00001000 00000009 0000000000000005 0000000000000007 ffffffffffffffff 8000000000000005"
        "0000000000000020 0000000000000040 00000001 00000002 0000000000000003" + "00" * 20
    ).replace(" ", "")


@pytest.mark.parametrize(
    ("base", "field", "value"),
    [
        (DELTA, "flags", 1),
        (DELTA, "flags", 6),
        (DELTA, "page_size", 0),
        (DELTA, "page_size", 256),
        (DELTA, "page_size", 131072),
        (DELTA, "page_size", 4095),
        (DELTA, "commit", -1),
        (DELTA, "commit", 1 << 32),
        (DELTA, "min_txid", 0),
        (DELTA, "min_txid", 1 << 64),
        (DELTA, "max_txid", 4),
        (DELTA, "max_txid", 1 << 64),
        (DELTA, "timestamp_ms", 1 << 63),
        (DELTA, "node_id", 1 << 64),
        (DELTA, "node_id", -1),
        (DELTA, "pre_apply_checksum", 0),
        (DELTA, "pre_apply_checksum", 5),
        (DELTA, "pre_apply_checksum", 1 << 64),
        (SNAPSHOT, "pre_apply_checksum", FLAG),
        (DELTA, "wal_offset", -1),
        (DELTA, "wal_size", -1),
        (dataclasses.replace(DELTA, wal_offset=32), "wal_salt1", 1 << 32),
        (dataclasses.replace(DELTA, wal_offset=32), "wal_salt2", -1),
    ],
)
def test_each_rule_names_its_field(base, field, value):
    with pytest.raises(LtxError, match=field):
        dataclasses.replace(base, **{field: value}).encode()


def test_wal_fields_need_an_offset():
    for field in ("wal_size", "wal_salt1", "wal_salt2"):
        with pytest.raises(LtxError, match="wal_offset"):
            dataclasses.replace(DELTA, **{field: 1}).validate()


def test_without_checksums_there_are_none():
    with pytest.raises(LtxError, match="pre_apply_checksum"):
        dataclasses.replace(DELTA, flags=HeaderFlags.NO_CHECKSUM).validate()
    header = DELTA.in_encoding(Encoding.BACKUP)
    assert (header.flags, header.pre_apply_checksum, header.has_checksums) == (2, 0, False)
    header.validate()
    with pytest.raises(LtxError, match="post_apply_checksum"):
        header.check_post_apply(FLAG)
    with pytest.raises(LtxError, match="flags"):
        header.in_encoding(Encoding.STREAM)


def test_deletion_ends_with_the_empty_checksum_and_needs_checksums():
    deletion = dataclasses.replace(DELTA, commit=0)
    deletion.check_post_apply(EMPTY_CHECKSUM)
    with pytest.raises(LtxError, match="post_apply_checksum"):
        deletion.check_post_apply(EMPTY_CHECKSUM | 1)
    with pytest.raises(LtxError, match="commit"):
        deletion.in_encoding(Encoding.BACKUP).validate()


def test_snapshot_is_what_starts_at_one():
    assert SNAPSHOT.is_snapshot and not DELTA.is_snapshot


def test_trailer_round_trip_and_size():
    trailer = Trailer(FLAG | 1, FLAG | 2)
    assert Trailer.decode(trailer.encode()) == trailer
    assert trailer.encode().hex() == "80000000000000018000000000000002"
    with pytest.raises(LtxError) as caught:
        Trailer.decode(bytes(15))
    assert caught.value.code == "LTX_TRUNCATED"
