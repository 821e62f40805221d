"""Reading stretches of a log for `/pull-updates`: which pages changed, the pages, and what completes an image.

Everything here blocks. Not here: what is asked of it (`pull_reading`), pages of one entry (`pull_pages`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pando import limits
from pando.clock import Clock, sleep_blocking
from pando.errors import NotReady
from pando.ltx.header import LtxHeader
from pando.sql.pull_images import Overlay
from pando.sql.pull_pages import NewestPages, newest_of
from pando.store.logreader import LogReader
from pando.store.segments import LogEntry
from pando.types import TXID, Position

READ_BYTES: Final = limits.MIB
LOG_WAIT_S: Final = 5.0
"""How long a commit that may be seen already is waited for in the log."""
POLL_S: Final = 0.002


class TooMuch(Exception):
    """More log than is worth looking through."""


def in_log(log: LogReader, position: Position) -> Position | None:
    """Give a position as the log has it: the table of positions may have a later epoch, of which no commit is there."""
    info = log.find(position.txid)
    found = log.base if info is None else info.position
    return found if (found.txid, found.checksum) == (position.txid, position.checksum) else None


def position_at(log: LogReader, txid: TXID) -> Position:
    """Give the position after a commit. Raises NotReady if the log has it no more."""
    info = log.find(txid)
    found = log.base if info is None else info.position
    if found.txid != txid:
        raise NotReady(f"commit {txid} is not in the log any more; try again")
    return found


def size_after(entry: LogEntry) -> int:
    """Give the pages of the database after an entry; raises LtxError."""
    return LtxHeader.decode(entry.payload).commit


def entries_between(log: LogReader, after: TXID, end: TXID) -> Iterator[LogEntry]:
    """Give the entries of a stretch of log; raises NotReady if the log has it no more."""
    at = after
    while at < end:
        entries = log.read(at, max_bytes=READ_BYTES, up_to=end)
        if not entries or entries[0].min_txid != at + 1:
            raise NotReady(f"the log lost the commits from {at + 1} on while they were read; try again")
        yield from entries
        at = entries[-1].max_txid


def newest_pages(
    log: LogReader, after: TXID, end: TXID, bytes_max: int, wanted: frozenset[int] | None = None
) -> NewestPages:
    """Find which commits have the newest version of each page. Raises TooMuch."""
    newest = NewestPages(wanted)
    seen = 0
    for entry in entries_between(log, after, end):
        seen += len(entry.payload)
        if seen > bytes_max:
            raise TooMuch
        newest.add(entry)
    newest.cut()
    return newest


def pages_of_log(log: LogReader, after: TXID, end: TXID, commits: dict[int, TXID]) -> Iterator[tuple[int, bytes]]:
    """Give these pages (number from 0, bytes) in the versions of these commits."""
    if commits:
        first = TXID(min(commits.values()) - 1)
        for entry in entries_between(log, max(after, first), min(end, max(commits.values()))):
            for number, page in newest_of(entry, commits):
                yield number - 1, page


def overlay(log: LogReader, low: TXID, high: TXID, clock: Clock) -> Overlay:
    """Give what leads from any state between two commits to the second one."""
    deadline = clock.monotonic() + LOG_WAIT_S
    while log.refresh().txid < high:
        if clock.monotonic() > deadline:
            raise NotReady(f"commit {high} did not come into the log; try again")
        sleep_blocking(POLL_S)
    if low == high:
        return Overlay(position_at(log, high), [], None)
    pages: dict[int, bytes] = {}
    newest, last = NewestPages(), None
    for entry in entries_between(log, low, high):
        newest.add(entry)
        pages.update(newest_of(entry, newest.commits))
        last = entry.position
    newest.cut()
    assert last is not None
    return Overlay(last, [(number, page) for number, page in pages.items() if number in newest.commits], newest.size)
