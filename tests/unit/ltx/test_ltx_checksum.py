import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.ltx import combine_checksums, crc64, normalise_page_one, page_checksum, rolling_checksum
from pando.ltx.checksum import CHECKSUM_FLAG, crc64_folding
from pando.ltx.xxh32 import xxh32
from pando.types import EMPTY_CHECKSUM, lock_pgno

PATTERN = bytes(i % 7 for i in range(4096))


def crc64_by_definition(data):
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xD800_0000_0000_0000 if crc & 1 else 0)
    return crc ^ (1 << 64) - 1


@pytest.mark.parametrize("function", [crc64, crc64_folding])
def test_crc64_check_value(function):
    assert function(b"123456789", 0) == 0xB90956C775A41001
    assert function(b"", 0) == 0
    assert function(b"6789", function(b"12345", 0)) == 0xB90956C775A41001


def test_golden_page_checksums(ltx):
    assert ltx.page_checksum(1, PATTERN) == 0x861CE233CCD6AD87
    assert ltx.page_checksum(2, bytes(4096)) == 0xF7901E47304CA33F
    assert ltx.rolling_checksum([(1, PATTERN), (2, bytes(4096))], 4096) == 0xF18CFC74FC9A0EB8


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_folding_equals_the_definition_and_the_library(data, crc):
    assert crc64_folding(data, 0) == crc64_by_definition(data)
    assert crc64_folding(data, crc) == crc64(data, crc)


@pytest.mark.parametrize("size", [511, 512, 513, 4096, 65535, 65536, 65537, 200_000])
def test_folding_equals_the_library_on_long_inputs(size):
    data = random.Random(size).randbytes(size)
    assert crc64_folding(data, 0) == crc64(data, 0)
    assert crc64_folding(bytes(size), 7) == crc64(bytes(size), 7)


def test_rolling_checksum_of_nothing_is_the_empty_one():
    assert rolling_checksum([], 4096) == EMPTY_CHECKSUM
    assert combine_checksums([]) == EMPTY_CHECKSUM


@given(st.lists(st.tuples(st.integers(1, 6), st.binary(min_size=8, max_size=8)), max_size=30))
def test_rolling_checksum_follows_replaced_pages(writes):
    database, rolling = {}, EMPTY_CHECKSUM
    for pgno, page in writes:
        old = page_checksum(pgno, database[pgno]) if pgno in database else 0
        database[pgno] = page
        rolling = combine_checksums([old, page_checksum(pgno, page)], rolling)
    assert rolling == rolling_checksum(database.items(), 512)
    for pgno, page in database.items():
        rolling = combine_checksums([page_checksum(pgno, page)], rolling)
    assert rolling == EMPTY_CHECKSUM


def test_rolling_checksum_leaves_the_lock_page_out():
    lock = lock_pgno(65536)
    pages = [(lock - 1, b"a" * 16), (lock, b"b" * 16), (lock + 1, b"c" * 16)]
    assert rolling_checksum(pages, 65536) == rolling_checksum([pages[0], pages[2]], 65536)


def test_every_checksum_has_its_flag():
    assert all(page_checksum(pgno, PATTERN) & CHECKSUM_FLAG for pgno in range(1, 100))


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0x02CC5D05), (b"a", 0x550D7456), (b"abc", 0x32D153FF), (b"0123456789abcdef", 0xC2C45B69)],
)
def test_xxh32_known_values(data, expected):
    assert xxh32(data) == expected


def test_normalised_page_one_has_twelve_bytes_cleared():
    page = bytes(range(256)) * 2
    normal = normalise_page_one(page)
    changed = {at for at in range(512) if page[at] != normal[at]}
    assert changed == {*range(24, 28), *range(92, 100)}
    assert len(normal) == 512
    assert normal[24:28] + normal[92:100] == bytes(12)
    assert normalise_page_one(normal) is normal
