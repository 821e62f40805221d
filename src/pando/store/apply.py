"""Turns log entries into one change of a database file: checks that they follow, and merges several.

Pure: entries and bytes in, pages out. Not here: writing the pages (`pando.store.replica`), reading the log.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pando import limits
from pando.errors import ChecksumMismatch, CorruptionError, LogCorruption
from pando.ltx import LtxDecoder, LtxHeader, decode_ltx
from pando.store.checksums import PageChecksums
from pando.store.segments import LogEntry
from pando.types import EMPTY_CHECKSUM, Checksum, Pgno, Position, lock_pgno

MERGED_PAGES_BYTES: Final = 16 * limits.MIB
"""Decoded pages after which no further entry is merged into an apply: bounds memory and the time to COMMIT."""
STREAMED_ENTRY_BYTES: Final = 512 * limits.KIB
"""An entry longer than this is decoded page by page while it is written, so that its pages are never all in memory
(pages of zeros are packed 240 to 1, so this much can stand for 120 MiB)."""

ENTRY_DOES_NOT_FOLLOW: Final = "ENTRY_DOES_NOT_FOLLOW"
"""Code of the ChecksumMismatch that says the next entry continues another position than ours."""

LOG_GAP: Final = "LOG_GAP"
"""Code of the CorruptionError that says the log does not hold the entry after our position (any more)."""

_FLAG: Final = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one transaction does to a file: pages (page 1 not last), the size after it, and where it leads."""

    before: Position
    after: Position
    page_size: int
    page_count: int
    pages: Iterable[tuple[Pgno, bytes]]
    entries: int = 1
    tables: tuple[str, ...] = ()
    """What it changes; none: any table."""


def plan_change(position: Position, page_count: int, page_size: int, entries: Sequence[LogEntry]) -> Change:
    """Merge as many of the entries as fit one apply; `page_size` 0: the file does not exist yet.

    Raises ChecksumMismatch (ENTRY_DOES_NOT_FOLLOW), LogCorruption or LtxError; nothing was changed then.
    """
    first = entries[0]
    check_follows(position, first)
    if len(first.payload) > STREAMED_ENTRY_BYTES:
        return _streamed(position, page_count, page_size, first)
    return _merged(position, page_count, page_size, entries)


def check_follows(position: Position, entry: LogEntry) -> None:
    """Check that an entry continues a position; raises ChecksumMismatch, CorruptionError (LOG_GAP)."""
    if entry.min_txid > position.txid + 1:
        raise CorruptionError(f"the file is at {position}, the log goes on at TXID {entry.min_txid}", code=LOG_GAP)
    pre = entry.pre_checksum or EMPTY_CHECKSUM
    if entry.min_txid == position.txid + 1 and pre == position.checksum and entry.epoch >= position.epoch:
        return
    raise ChecksumMismatch(
        f"the file is at {position}, the next entry of the log is {entry.epoch}/{entry.min_txid:016x} "
        f"and was made on checksum {pre:016x}",
        code=ENTRY_DOES_NOT_FOLLOW,
    )


def _check_header(header: LtxHeader, entry: LogEntry, page_size: int) -> None:
    if (header.min_txid, header.max_txid) != (entry.min_txid, entry.max_txid):
        raise LogCorruption(
            f"entry {entry.min_txid}..{entry.max_txid} holds an LTX file of {header.min_txid}..{header.max_txid}"
        )
    if page_size and header.page_size != page_size:
        raise LogCorruption(
            f"entry {entry.min_txid} has pages of {header.page_size} bytes, the database of {page_size}"
        )


def _check_post(found: Checksum, entry: LogEntry) -> None:
    if found != entry.post_checksum:
        raise LogCorruption(
            f"entry {entry.max_txid} promises checksum {entry.post_checksum:016x}, its LTX file {found:016x}"
        )


def _merged(position: Position, page_count: int, page_size: int, entries: Sequence[LogEntry]) -> Change:
    at, count = position, page_count
    pages: dict[Pgno, bytes] | None = None
    single: list[tuple[Pgno, bytes]] = []
    taken = 0
    tables: set[str] = set()
    is_any = False
    for entry in entries:
        if taken:
            check_follows(at, entry)
            if len(entry.payload) > STREAMED_ENTRY_BYTES:
                break
        file = decode_ltx(entry.payload)
        header = file.header
        _check_header(header, entry, page_size)
        _check_post(file.trailer.post_apply_checksum, entry)
        if header.commit > count:
            file.check_growth(count)
        if taken == 0:
            single = file.pages
        else:
            pages = dict(single) if pages is None else pages
            if header.commit < count:
                pages = {pgno: data for pgno, data in pages.items() if pgno <= header.commit}
            pages.update(file.pages)
        taken += 1
        tables.update(entry.tables)
        is_any = is_any or not entry.tables
        at, count, page_size = entry.position, header.commit, header.page_size
        if (len(single) if pages is None else len(pages)) * page_size >= MERGED_PAGES_BYTES:
            break
    return Change(
        before=position,
        after=at,
        page_size=page_size,
        page_count=count,
        pages=single if pages is None else pages.items(),
        entries=taken,
        tables=() if is_any else tuple(tables),
    )


def _streamed(position: Position, page_count: int, page_size: int, entry: LogEntry) -> Change:
    decoder = LtxDecoder(io.BytesIO(entry.payload).read)
    _check_header(decoder.header, entry, page_size)
    header = decoder.header
    return Change(
        before=position,
        after=entry.position,
        page_size=header.page_size,
        page_count=header.commit,
        pages=_verified_pages(decoder, entry, page_count),
        tables=entry.tables,
    )


def _verified_pages(decoder: LtxDecoder, entry: LogEntry, page_count: int) -> Iterator[tuple[Pgno, bytes]]:
    """Give the pages; raises at their end if growth left a hole or the file's checksums do not hold."""
    grown = 0
    for pgno, data in decoder:
        grown += pgno > page_count
        yield pgno, data
    commit = decoder.header.commit
    wanted = commit - page_count - (page_count < lock_pgno(decoder.header.page_size) <= commit)
    if commit > page_count and grown != wanted:
        raise LogCorruption(f"entry {entry.max_txid} grows the database by {wanted} pages and holds {grown} of them")
    decoder.expect_end()
    _check_post(decoder.verified_trailer.post_apply_checksum, entry)


def rolling_after(table: PageChecksums, pages: Iterable[tuple[Pgno, Checksum]], page_count: int) -> Checksum:
    """Give the rolling checksum that `table.update` would lead to, without changing the table."""
    value = int(table.rolling)
    get = table.get
    for pgno, checksum in pages:
        value ^= get(pgno) ^ checksum
    for number in range(page_count + 1, table.page_count + 1):
        value ^= get(Pgno(number))
    return Checksum(value | _FLAG)
