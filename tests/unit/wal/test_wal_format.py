"""WAL headers and the running checksum."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wal_files import open_database, wal_path

from pando.testing.wal_making import encode_header
from pando.wal.checksum import extend_checksum
from pando.wal.format import HEADER_SIZE, decode_header

_SUMS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


def _word_by_word(checksum: tuple[int, int], data: bytes, *, big_endian: bool) -> tuple[int, int]:
    """The rule as SQLite's documentation states it."""
    s0, s1 = checksum
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for x, y in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + x + s1) % 2**32
        s1 = (s1 + y + s0) % 2**32
    return s0, s1


@given(_SUMS, st.binary(max_size=60).map(lambda data: data * 8), st.booleans())
def test_checksum_is_the_documented_one(checksum, data, big_endian):
    expected = _word_by_word(checksum, data, big_endian=big_endian)
    assert extend_checksum(checksum, data, big_endian=big_endian) == expected


@pytest.mark.parametrize("size", [8, 24, 120, 128, 136, 512, 1024, 2048, 4096, 4104, 8192, 12296, 65536])
@pytest.mark.parametrize("big_endian", [False, True])
def test_checksum_of_pages(size, big_endian):
    rng = random.Random(size)
    for data in (rng.randbytes(size), bytes(size), b"\xff" * size):
        start = (rng.getrandbits(32), rng.getrandbits(32))
        expected = _word_by_word(start, data, big_endian=big_endian)
        assert extend_checksum(start, data, big_endian=big_endian) == expected


def test_checksum_takes_whole_pairs_of_words():
    with pytest.raises(ValueError, match="8 bytes"):
        extend_checksum((0, 0), b"1234", big_endian=False)


@given(st.booleans(), st.integers(9, 16), st.integers(0, 2**32 - 1), _SUMS)
def test_header_round_trip(big_endian, shift, sequence, salts):
    data = encode_header(big_endian=big_endian, page_size=1 << shift, sequence=sequence, salts=salts)
    assert len(data) == HEADER_SIZE
    header = decode_header(data + b"frames")
    assert header is not None
    assert (header.big_endian, header.page_size, header.sequence, header.salts) == (
        big_endian, 1 << shift, sequence, salts,
    )  # fmt: skip


def test_a_damaged_header_is_none():
    data = encode_header(big_endian=False, page_size=4096, sequence=1, salts=(2, 3))
    for size in range(HEADER_SIZE):
        assert decode_header(data[:size]) is None
    for at in range(HEADER_SIZE):
        for flip in (0x01, 0x80, 0xFF):
            assert decode_header(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]) is None
    for page_size in (0, 256, 513, 1 << 17):
        assert decode_header(encode_header(big_endian=False, page_size=page_size, sequence=1, salts=(2, 3))) is None


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_header_that_sqlite_wrote(tmp_path, page_size):
    connection = open_database(tmp_path / "a.db", page_size=page_size)
    header = decode_header(wal_path(tmp_path / "a.db").read_bytes())
    assert header is not None
    assert header.page_size == page_size
    assert header.sequence == 0
    connection.close()
