"""Turns the WAL frames of new commits into one log entry: the last version of each page, as an LTX file.

The caller is the only writer of the WAL and calls after its own COMMIT, so the frames are trusted (salts and commit marks are
checked, the running checksum is not); recovery verifies everything (`walscan.read_all_commits`). Not here: when to capture.
"""

from __future__ import annotations

from pando.errors import CorruptionError
from pando.ltx import LtxHeader, encode_ltx, normalise_page_one, page_checksum
from pando.store.checksums import PageChecksums
from pando.store.commitlog import LogEntry
from pando.store.rawfile import RawFile
from pando.store.walscan import WalTail, find_newest_frame
from pando.types import TXID, Checksum, Epoch, Pgno, Position, lock_pgno


class Capture:
    """Follows the WAL of one database on its primary."""

    def __init__(self, *, raw: RawFile, checksums: PageChecksums) -> None:
        self._raw = raw
        self._checksums = checksums
        self._tail = WalTail(raw)

    @property
    def wal_frames(self) -> int:
        """Frames in the WAL up to the last captured commit."""
        return self._tail.frames

    def skip_to_end(self) -> None:
        """Take what is in the WAL as captured already (after recovery)."""
        self._tail.skip_to_end()

    def take(self, previous: Position, *, epoch: Epoch, timestamp_ms: int, tables: tuple[str, ...]) -> LogEntry | None:
        """Capture what was committed since the last call as one entry, None when nothing was. Raises CorruptionError."""
        pages, page_count = self._tail.read_new()
        if page_count == 0:
            return None
        return encode_commit(
            pages,
            page_count=page_count,
            raw=self._raw,
            checksums=self._checksums,
            previous=previous,
            epoch=epoch,
            timestamp_ms=timestamp_ms,
            tables=tables,
        )


def encode_commit(
    pages: dict[Pgno, bytes],
    *,
    page_count: int,
    raw: RawFile,
    checksums: PageChecksums,
    previous: Position,
    epoch: Epoch,
    timestamp_ms: int,
    tables: tuple[str, ...],
) -> LogEntry:
    """Make the entry that takes a database from `previous` to the state with these pages; moves the checksums on."""
    if page_count > checksums.page_count:
        _add_growth(pages, checksums.page_count, page_count, raw)
    first = pages.get(Pgno(1))
    if first is not None:
        pages[Pgno(1)] = normalise_page_one(first)
    ordered = sorted((pgno, data) for pgno, data in pages.items() if pgno <= page_count)
    rolling = checksums.update([(pgno, page_checksum(pgno, data)) for pgno, data in ordered], page_count)
    raw.page_count = page_count
    txid = TXID(previous.txid + 1)
    header = LtxHeader(
        page_size=raw.page_size,
        commit=page_count,
        min_txid=txid,
        max_txid=txid,
        timestamp_ms=timestamp_ms,
        pre_apply_checksum=previous.checksum,
    )
    return LogEntry(
        epoch=epoch,
        min_txid=txid,
        max_txid=txid,
        pre_checksum=previous.checksum,
        post_checksum=Checksum(rolling),
        timestamp_ms=timestamp_ms,
        tables=tables,
        payload=encode_ltx(header, ordered, rolling),
    )


def _add_growth(pages: dict[Pgno, bytes], old_count: int, new_count: int, raw: RawFile) -> None:
    """Add pages in the grown part that the commit did not write: readers see what an older frame or the file holds there."""
    skip = lock_pgno(raw.page_size)
    for number in range(old_count + 1, new_count + 1):
        pgno = Pgno(number)
        if pgno not in pages and pgno != skip:
            if number == 1:
                raise CorruptionError(f"the first commit of {raw.path} did not write page 1")
            pages[pgno] = find_newest_frame(raw, pgno) or raw.read_page(pgno)
