"""Commits of the log as frames, for clients that keep a local file: SQLite WAL frames (v2) and libSQL frames (v1).

A frame is one page of a commit; the last one of a commit says how many pages the database has then. Which page comes
when is the order in the commit's LTX file, so frames are the same bytes on every node. Only pages of 4096 bytes: these
clients know no others. Not here: numbers within generations (`pando.sql.embedded_generations`), messages.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pando.errors import LocalCopyRefused, LtxError
from pando.ltx import HEADER_SIZE, LtxHeader
from pando.ltx.encoder import PAGE_HAS_SIZE
from pando.ltx.lz4codec import block_size_max, decompress_block
from pando.types import TXID, Epoch, Pgno

PAGE_SIZE: Final = 4096

_WAL_HEAD: Final = struct.Struct(">II16x")
_LIBSQL_HEAD: Final = struct.Struct("<QQII")
_PAGE_HEAD: Final = struct.Struct(">IH")
_BLOCK_HEAD: Final = struct.Struct(">IHI")

_EPOCH_BITS: Final = 24
EPOCHS_MAX: Final = 1 << (_EPOCH_BITS - 1)
TXIDS_MAX: Final = 1 << (62 - _EPOCH_BITS)


@dataclass(frozen=True, slots=True)
class PageSpan:
    """Where a page's LZ4 block is in an LTX file."""

    pgno: Pgno
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One LTX file of the log, taken apart but not decompressed: its checksums were verified when it was read."""

    payload: bytes
    page_count: int
    """Pages of the database after it."""
    spans: tuple[PageSpan, ...]

    def page(self, index: int) -> bytes:
        """Give the bytes of one of its pages. Raises LtxError."""
        span = self.spans[index]
        return decompress_block(self.payload[span.start : span.end], PAGE_SIZE)

    def wal_frames(self, first: int, end: int, *, is_commit: bool) -> list[bytes]:
        """Give frames of SQLite's WAL for some of its pages; salts and checksums are zero, no client looks at them.

        `is_commit`: the last page of all says that it is the last.
        """
        last = len(self.spans) - 1
        frames: list[bytes] = []
        for index in range(first, end):
            size_after = self.page_count if is_commit and index == last else 0
            frames.append(_WAL_HEAD.pack(self.spans[index].pgno, size_after) + self.page(index))
        return frames

    def libsql_frames(self, number: int) -> list[bytes]:
        """Give libSQL's frames of the whole commit; the last has this number, those before it the numbers before."""
        last = len(self.spans) - 1
        return [
            libsql_frame(number - last + index, span.pgno, self.page_count if index == last else 0, self.page(index))
            for index, span in enumerate(self.spans)
        ]


def read_commit(payload: bytes) -> Commit:
    """Take a commit of the log apart; about 0.4 us a page. Raises LtxError, LocalCopyRefused for other page sizes."""
    header = LtxHeader.decode(payload)
    if header.page_size != PAGE_SIZE:
        raise wrong_page_size(header.page_size)
    size_max = block_size_max(PAGE_SIZE)
    spans: list[PageSpan] = []
    at = HEADER_SIZE
    while True:
        if at + _PAGE_HEAD.size > len(payload):
            raise LtxError("a log entry ends within its pages")
        pgno, flags = _PAGE_HEAD.unpack_from(payload, at)
        if not pgno:
            return Commit(payload, header.commit, tuple(spans))
        if flags != PAGE_HAS_SIZE or at + _BLOCK_HEAD.size > len(payload):
            raise LtxError("a log entry is not in the encoding of the stream, which logs are written in")
        size = _BLOCK_HEAD.unpack_from(payload, at)[2]
        if not 0 < size <= size_max:
            raise LtxError(f"page {pgno} of a log entry has {size} bytes of data")
        start = at + _BLOCK_HEAD.size
        at = start + size
        spans.append(PageSpan(pgno, start, at))


def wrong_page_size(size: int) -> LocalCopyRefused:
    """Say why a database cannot be kept as a local file by these clients."""
    return LocalCopyRefused(
        f"libSQL's embedded replicas want pages of {PAGE_SIZE} bytes, and this database has pages of {size}; "
        "`PRAGMA page_size` and VACUUM on an export, then `pando import --replace`, change that"
    )


def libsql_frame(number: int, pgno: int, size_after: int, page: bytes) -> bytes:
    """Give one frame as sqld sends it; no client looks at the checksum."""
    return _LIBSQL_HEAD.pack(number, 0, pgno, size_after) + page


# -- numbers of libSQL's frames ---------------------------------------------------------------------------------------


def commit_number(epoch: int, txid: int) -> int:
    """Give the number of a commit's last frame: it names the commit, on every node, whatever was lost elsewhere.

    The epoch is in the lower half, since a TXID may stand for another commit after a failover. Numbers of the frames
    before the last one are smaller and above all numbers of the commit before. Raises LocalCopyRefused out of range.
    """
    if not (0 <= epoch < EPOCHS_MAX and 0 <= txid < TXIDS_MAX):
        raise LocalCopyRefused("this database has a longer history than libSQL's embedded replicas can count")
    return (txid + 1 << _EPOCH_BITS) + EPOCHS_MAX + epoch


def parse_number(number: int) -> tuple[Epoch, TXID] | None:
    """Name the commit that a client has, from its last frame's number; None if it is no commit's."""
    txid, low = (number >> _EPOCH_BITS) - 1, number & ((1 << _EPOCH_BITS) - 1)
    if low < EPOCHS_MAX or not 0 <= txid < TXIDS_MAX:
        return None
    return Epoch(low - EPOCHS_MAX), TXID(txid)
