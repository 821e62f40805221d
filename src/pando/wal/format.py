"""Header and frame header of SQLite's write-ahead log file, as SQLite's file format document has them. Pure.
Not here: making them (`pando.testing.wal_making`).

All numbers are big-endian 32-bit words; only the checksums are computed over words in the order that the magic says.

File header, 32 bytes:                      Frame header, 24 bytes, before each page:

     0  magic 0x377f0682 (checksums over         0  page number
        little-endian words), ..83 (big)         4  commit: database size in pages after it; 0 in other frames
     4  version 3007000                          8  salt 1
     8  page size, 512 to 65536                 12  salt 2
    12  checkpoint sequence number              16  checksum 1
    16  salt 1, plus one with each restart      20  checksum 2
    20  salt 2, random with each restart
    24  checksum 1
    28  checksum 2

The checksum runs on: over bytes 0..23 of the file header, then for each frame over bytes 0..7 of its header and the
page. A frame belongs to the file's present generation if it has its salts, and counts if its checksum continues the
chain.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pando.types import is_page_size
from pando.wal.checksum import extend_checksum

HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
MAGIC_LITTLE = 0x377F0682
MAGIC_BIG = 0x377F0683
VERSION = 3_007_000

_HEADER = struct.Struct(">8I")
FRAME = struct.Struct(">6I")
"""Page number, commit, salt 1, salt 2, checksum 1, checksum 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalHeader:
    """What a whole file header says."""

    big_endian: bool
    page_size: int
    sequence: int
    salts: tuple[int, int]
    checksum: tuple[int, int]


def decode_header(data: bytes) -> WalHeader | None:
    """Read a file header; None when it is short, not a WAL's, or its checksum is wrong."""
    if len(data) < HEADER_SIZE:
        return None
    magic, version, page_size, sequence, salt1, salt2, sum1, sum2 = _HEADER.unpack_from(data)
    if magic not in {MAGIC_LITTLE, MAGIC_BIG} or version != VERSION or not is_page_size(page_size):
        return None
    big_endian = magic == MAGIC_BIG
    if extend_checksum((0, 0), data[:24], big_endian=big_endian) != (sum1, sum2):
        return None
    return WalHeader(
        big_endian=big_endian, page_size=page_size, sequence=sequence, salts=(salt1, salt2), checksum=(sum1, sum2)
    )


def frame_checksum(checksum: tuple[int, int], head: bytes, page: bytes, *, big_endian: bool) -> tuple[int, int]:
    """Give the chain after a frame; of `head` only the first 8 bytes count."""
    checksum = extend_checksum(checksum, head[:8], big_endian=big_endian)
    return extend_checksum(checksum, page, big_endian=big_endian)
