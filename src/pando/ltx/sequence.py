"""The order of pages in a file and the index that ends it: the rules that writers and readers share.

`PageSequence` checks page numbers one by one; `PageIndex` grows with the pages and is the only part of a file that the
streaming encoder and decoder hold (at most 15 bytes a page).
"""

from __future__ import annotations

from pando.errors import LtxError
from pando.ltx.failures import broken
from pando.ltx.header import HEADER_SIZE, LtxHeader
from pando.types import Pgno, lock_pgno

_ONE_BYTE = tuple(bytes((value,)) for value in range(128))


def uvarint(value: int) -> bytes:
    """Give an unsigned LEB128 integer: seven bits a byte, lowest first, bit 7 set in all but the last."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x20_0000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def index_tail(entries: bytes | bytearray) -> bytes:
    """Give the index as it stands in the file: entries, a zero, and the length of both in 8 bytes."""
    return b"".join((entries, b"\0", (len(entries) + 1).to_bytes(8, "big")))


class PageSequence:
    """Checks that pages come in an order that the header allows.

    Strictly ascending, none past `commit`, never the lock page; a snapshot has every page. With `previous_commit`, the
    size of the database before, also that every page by which it grew is there (else old bytes would come back).
    """

    __slots__ = ("_commit", "_grown", "_growth_from", "_last", "_lock", "_snapshot")

    def __init__(self, header: LtxHeader, previous_commit: int | None = None) -> None:
        self._commit = header.commit
        self._lock = lock_pgno(header.page_size)
        self._snapshot = header.is_snapshot
        self._growth_from = header.commit if previous_commit is None else previous_commit
        self._last = 0
        self._grown = 0

    def accept(self, pgno: int) -> None:
        """Take the next page number; raises LtxError."""
        last = self._last
        if pgno <= last or pgno > self._commit or pgno == self._lock:
            raise self._refusal(pgno)
        if self._snapshot and pgno != last + 1 and (last + 1 != self._lock or pgno != last + 2):
            raise broken("page number", pgno, f"a snapshot has every page, {last + 1} is missing before it")
        if pgno > self._growth_from:
            self._grown += 1
        self._last = pgno

    def _refusal(self, pgno: int) -> LtxError:
        if pgno < 1:
            return broken("page number", pgno, "must be at least 1")
        if pgno <= self._last:
            return broken("page number", pgno, f"must be greater than the page before it, {self._last}")
        if pgno > self._commit:
            return broken("page number", pgno, f"must not exceed commit {self._commit}")
        return broken("page number", pgno, "the lock page must never be encoded")

    def finish(self) -> None:
        """Check after the last page that none is missing; raises LtxError."""
        commit = self._commit
        if self._snapshot and self._last != commit and (commit != self._lock or self._last != commit - 1):
            raise broken("commit", commit, f"a snapshot has every page, this one ends with page {self._last}")
        if commit > self._growth_from:
            grown_to = commit - self._growth_from - (self._growth_from < self._lock <= commit)
            if self._grown != grown_to:
                raise broken(
                    "commit",
                    commit,
                    f"the database grew from {self._growth_from} pages, but only {self._grown} "
                    f"of the {grown_to} new pages are in the file",
                )


class PageIndex:
    """Collects the page index: for each page its number, the offset and the size of its frame."""

    __slots__ = ("_entries", "offset")

    def __init__(self) -> None:
        self._entries = bytearray()
        self.offset = HEADER_SIZE
        """Where the next page's frame starts in the file."""

    def add(self, pgno: Pgno, size: int) -> None:
        """Note a frame of `size` bytes, page header included."""
        self._entries += uvarint(pgno) + uvarint(self.offset) + uvarint(size)
        self.offset += size

    def encode(self) -> bytes:
        """Give the bytes of the index."""
        return index_tail(self._entries)
