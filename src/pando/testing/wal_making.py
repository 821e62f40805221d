"""Headers and frames of write-ahead logs, for tests that need what SQLite would not write. Not here: reading them."""

from __future__ import annotations

import struct
from typing import Final

from pando.wal.checksum import extend_checksum
from pando.wal.format import FRAME, MAGIC_BIG, MAGIC_LITTLE, VERSION, frame_checksum

_HEADER: Final = struct.Struct(">6I")
_WORDS: Final = struct.Struct(">2I")


def encode_header(*, big_endian: bool, page_size: int, sequence: int, salts: tuple[int, int]) -> bytes:
    """Make a file header."""
    magic = MAGIC_BIG if big_endian else MAGIC_LITTLE
    body = _HEADER.pack(magic, VERSION, page_size, sequence, *salts)
    return body + _WORDS.pack(*extend_checksum((0, 0), body, big_endian=big_endian))


def encode_frame(
    checksum: tuple[int, int], pgno: int, commit: int, page: bytes, *, salts: tuple[int, int], big_endian: bool
) -> tuple[bytes, tuple[int, int]]:
    """Make a frame that continues a checksum chain, and give the chain after it."""
    head = _WORDS.pack(pgno, commit)
    checksum = frame_checksum(checksum, head, page, big_endian=big_endian)
    return FRAME.pack(pgno, commit, *salts, *checksum) + page, checksum
