"""The checksums of LTX: CRC-64/GO-ISO, one checksum per page, and the rolling checksum of a database.

The rolling checksum is the XOR of all page checksums but the lock page's, so a commit updates it from the pages it
touched. Every page and database checksum has bit 63 set; 0 means "none". `fastcrc` does the CRC when it is installed
(0.15 us for 4 KiB), big-integer folding otherwise (about 15 us). Not here: the file checksum's coverage (see `encoder`
and `decoder`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache

from pando.types import EMPTY_CHECKSUM, Checksum, Pgno, lock_pgno

CHECKSUM_FLAG = 1 << 63
"""Set in every checksum that is present."""

_ONES = (1 << 64) - 1
_FOLD_CHUNK_BYTES = 64 * 1024
_pack_pgno = struct.Struct(">I").pack


@lru_cache(maxsize=256)
def _fold_plan(size_bits: int) -> tuple[tuple[int, int, int, int, int, int], ...]:
    """Give (mask, drop, four shifts) per fold that brings a message of so many bits down to 64.

    Modulo the polynomial x^64 = x^4 + x^3 + x + 1, and squaring keeps that shape: x^(64t) = x^(4t) + x^(3t) + x^t + 1
    for t a power of two. The message is held with its first bit lowest, so the `drop` first bits come back at the
    distances 64t-4t, 64t-3t, 64t-t and 64t, of which `drop` falls away.
    """
    plan = []
    while size_bits > 64:
        step = 1 << ((size_bits - 1) // 64).bit_length() - 1
        drop = min(60 * step, size_bits - 64 * step)
        plan.append(((1 << drop) - 1, drop, 60 * step - drop, 61 * step - drop, 63 * step - drop, 64 * step - drop))
        size_bits -= drop
    return tuple(plan)


def crc64_folding(data: bytes, crc: int = 0) -> int:
    """Give the CRC-64/GO-ISO of what gave `crc`, followed by `data`; standard library only."""
    for start in range(0, len(data), _FOLD_CHUNK_BYTES):
        chunk = data[start : start + _FOLD_CHUNK_BYTES]
        value = int.from_bytes(chunk, "little") ^ crc ^ _ONES
        for mask, drop, a, b, c, d in _fold_plan(len(chunk) * 8 + 64):
            low = value & mask
            value = (value >> drop) ^ (low << a) ^ (low << b) ^ (low << c) ^ (low << d)
        crc = value ^ _ONES
    return crc


def _fastest_crc64() -> Callable[[bytes, int], int]:
    try:
        from fastcrc.crc64 import go_iso
    except ImportError:
        return crc64_folding
    return go_iso


crc64: Callable[[bytes, int], int] = _fastest_crc64()
"""`crc64(data, crc)`: the CRC-64/GO-ISO of what gave `crc` (0: nothing), followed by `data`."""


def page_checksum(pgno: Pgno, data: bytes) -> Checksum:
    """Give a page's checksum: over its number (4 bytes, big-endian) and its bytes. The caller normalises page 1."""
    return Checksum(crc64(data, crc64(_pack_pgno(pgno), 0)) | CHECKSUM_FLAG)


def combine_checksums(checksums: Iterable[int], rolling: Checksum = EMPTY_CHECKSUM) -> Checksum:
    """XOR page checksums into a rolling checksum: what is in comes out, what is not goes in."""
    value = int(rolling)
    for checksum in checksums:
        value ^= checksum
    return Checksum(value | CHECKSUM_FLAG)


def rolling_checksum(pages: Iterable[tuple[Pgno, bytes]], page_size: int) -> Checksum:
    """Give the rolling checksum of a whole database; the lock page is left out wherever it occurs."""
    lock = lock_pgno(page_size)
    return combine_checksums(page_checksum(pgno, data) for pgno, data in pages if pgno != lock)
