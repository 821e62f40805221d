"""Which commits of a stretch of log hold the newest version of each page: pure, from the entries' bytes.

An image of one state and the log around it give every page as of another state: what changed in between comes from the
log, the rest from the image. Not here: images and files (`pull_images`), reading logs (`pull_reading`).
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Final

from pando.errors import LtxError
from pando.ltx.decoder import LtxDecoder
from pando.ltx.header import TRAILER_SIZE, LtxHeader
from pando.sql.pull_messages import check_page_size
from pando.store.segments import LogEntry
from pando.types import TXID

_LENGTH_BYTES: Final = 8


def page_numbers(payload: bytes) -> Iterator[int]:
    """Give the page numbers (from 1) that an LTX file lists in its index; raises LtxError."""
    end = len(payload) - TRAILER_SIZE - _LENGTH_BYTES
    at = end - int.from_bytes(payload[end : end + _LENGTH_BYTES], "big")
    if not 0 <= at < end:
        raise LtxError("the page index of a log entry is longer than the entry")
    while True:
        number, at = _uvarint(payload, at, end)
        if not number:
            return
        yield number
        _, at = _uvarint(payload, at, end)
        _, at = _uvarint(payload, at, end)


def _uvarint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise LtxError("the page index of a log entry ends too early")


class NewestPages:
    """Collects, entry by entry, which commit has the newest version of each page."""

    def __init__(self, wanted: frozenset[int] | None = None) -> None:
        """`wanted`: the only pages that matter, by number from 1; None: all."""
        self._wanted = wanted
        self.commits: dict[int, TXID] = {}
        """By page number from 1: the last commit that wrote it."""
        self.size: int | None = None
        """Pages of the database after the last entry; None before the first."""

    def add(self, entry: LogEntry) -> None:
        """Take the next entry; raises LtxError, InvalidRequest for a page size that clients do not know."""
        header = LtxHeader.decode(entry.payload)
        check_page_size(header.page_size)
        self.size = header.commit
        wanted, txid = self._wanted, entry.max_txid
        for number in page_numbers(entry.payload):
            if wanted is None or number in wanted:
                self.commits[number] = txid

    def cut(self) -> None:
        """Forget pages behind the end: the database had them, and shrank."""
        size = self.size
        if size is not None:
            for number in [number for number in self.commits if number > size]:
                del self.commits[number]


def newest_of(entry: LogEntry, commits: dict[int, TXID]) -> Iterator[tuple[int, bytes]]:
    """Give the pages (number from 1, bytes) of which this entry has the newest version; raises LtxError."""
    txid = entry.max_txid
    for number, page in LtxDecoder(BytesIO(entry.payload).read):
        if commits.get(number) == txid:
            yield number, page
