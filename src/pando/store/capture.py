"""Turns the WAL frames of new commits into one log entry: the last version of each page, as an LTX file.

What is too much for one entry becomes a `NewBase` instead: the log begins anew behind it, and replicas take a
snapshot. If frames got lost (another program has begun the WAL anew), every page is compared with its checksum. Not
here: when to capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pando import limits
from pando.errors import StorageError
from pando.ltx import LtxHeader, encode_ltx, normalise_page_one, page_checksum
from pando.store.checksums import PageChecksums
from pando.store.commitlog import LogEntry
from pando.store.rawfile import RawFile, WalState
from pando.store.walscan import FramesLost, WalPages, WalTail
from pando.types import TXID, Checksum, Epoch, Pgno, Position, lock_pgno

_SCAN_TRIES = 3


@dataclass(frozen=True, slots=True)
class NewBase:
    """A position to which no entry leads: the log must begin anew there, once file and WAL are durable."""

    position: Position
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """What of an entry does not depend on pages."""

    previous: Position
    epoch: Epoch
    timestamp_ms: int
    tables: tuple[str, ...]

    @property
    def txid(self) -> TXID:
        """The TXID that comes next."""
        return TXID(self.previous.txid + 1)


class Capture:
    """Follows the WAL of one database on its primary. One thread at a time."""

    def __init__(
        self,
        *,
        raw: RawFile,
        checksums: PageChecksums,
        keep_others_out: Callable[[], AbstractContextManager[object]] = nullcontext,
        entry_bytes_max: int = limits.ENTRY_PAGES_BYTES_MAX,
    ) -> None:
        """`keep_others_out` takes SQLite's write lock for as long as the context lasts; raises StorageError."""
        self._raw = raw
        self._checksums = checksums
        self._keep_others_out = keep_others_out
        self._entry_bytes_max = entry_bytes_max
        self._tail = WalTail(raw)
        self.commits = 0
        """Commits in what `take` gave last, -1 when that is not known."""

    @property
    def wal_frames(self) -> int:
        """Frames in the WAL up to the last captured commit."""
        return self._tail.frames

    def start(self, salts: bytes, frames: int) -> None:
        """Take the first frames of the WAL as captured already (recovery has done it)."""
        self._tail.start(salts, frames)

    def is_behind(self) -> bool:
        """Tell whether somebody has committed since the last call of `take`. Raises StorageError."""
        return self._tail.look() is not None

    def backlog_bytes(self) -> int:
        """About how many bytes `take` will read. Raises StorageError."""
        state = self._tail.look()
        if state is None:
            return 0
        frames = self._tail.backlog_frames(state)
        may_be_lost = frames == state.frames and self._tail.commits_to(state) != 1
        return (frames + (state.page_count if may_be_lost else 0)) * self._raw.page_size

    def take(
        self, previous: Position, *, epoch: Epoch, timestamp_ms: int, tables: tuple[str, ...]
    ) -> LogEntry | NewBase | None:
        """Capture what was committed since the last call, None when nothing was.

        Raises StorageError: then nothing has changed, and the next call takes the same. After any other exception this
        object is of no more use.
        """
        state = self._tail.look()
        if state is None:
            return None
        self.commits = self._tail.commits_to(state)
        step = Step(previous, epoch, timestamp_ms, tables)
        try:
            if self._tail.backlog_frames(state) * self._raw.page_size > self._entry_bytes_max:
                taken: LogEntry | NewBase | None = self._take_large(state, step)
            else:
                taken = self._take_frames(state, step)
        except FramesLost:
            self.commits = -1
            state, taken = self._take_by_scan(step)
        self._tail.accept(state)
        return taken

    def _take_frames(self, state: WalState, step: Step) -> LogEntry:
        pages = dict(self._tail.frames_to(state))
        if state.page_count > self._checksums.page_count:
            self._add_growth(pages, state)
        return encode_commit(pages, state.page_count, raw=self._raw, checksums=self._checksums, step=step)

    def _add_growth(self, pages: dict[Pgno, bytes], state: WalState) -> None:
        """Add pages in the grown part that no frame has: readers see what an older frame or the file holds there."""
        grown = grown_pages(self._checksums.page_count, state.page_count, self._raw.page_size)
        missing = [pgno for pgno in grown if pgno not in pages]
        if missing:
            visible = WalPages(self._raw, state)
            for pgno in missing:
                pages[pgno] = visible.read(pgno)

    def _take_large(self, state: WalState, step: Step) -> NewBase:
        """Move the checksums on frame by frame, holding no more than one read of the WAL."""
        moving = self._checksums.copy()
        for pgno, data in self._tail.frames_to(state):
            moving.put(pgno, checksum_of(pgno, data))
        moving.resize(state.page_count)
        grown = grown_pages(self._checksums.page_count, state.page_count, self._raw.page_size)
        missing = [pgno for pgno in grown if not moving.get(pgno)]
        if missing:
            visible = WalPages(self._raw, state)
            for pgno in missing:
                moving.put(pgno, checksum_of(pgno, visible.read(pgno)))
        return self._rebase(moving, step, "a commit is too large for the log")

    def _rebase(self, checksums: PageChecksums, step: Step, reason: str) -> NewBase:
        self._checksums.assign(checksums)
        self._raw.page_count = checksums.page_count
        return NewBase(Position(epoch=step.epoch, txid=step.txid, checksum=checksums.rolling), reason)

    def _take_by_scan(self, step: Step) -> tuple[WalState, LogEntry | NewBase | None]:
        """Compare every page with its checksum; what differs is the change. If others keep on writing, they wait."""
        for number in range(_SCAN_TRIES):
            with nullcontext() if number == 0 else self._keep_others_out():
                found = self._scan(step)
            if found is not None:
                return found
        raise StorageError(f"another program keeps on writing {self._raw.path}; stop it")

    def _scan(self, step: Step) -> tuple[WalState, LogEntry | NewBase | None] | None:
        """Compare once; None if somebody committed meanwhile: what was read may be a mixture."""
        raw = self._raw
        state = raw.read_state()
        if state is None:
            return None
        page_count = state.page_count if state.frames else raw.file_pages
        try:
            visible = WalPages(raw, state)
            found = scan_pages(visible.read, page_count, raw.page_size)
            changed = self._checksums.differing(found, most=max(page_count, 1))
            is_large = len(changed) * raw.page_size > self._entry_bytes_max
            pages = {} if is_large else {pgno: visible.read(pgno) for pgno in changed if pgno <= page_count}
        except FramesLost:
            return None
        if raw.read_state() != state:
            return None
        if not changed:
            return state, None
        if is_large:
            return state, self._rebase(found, step, "another program has changed most of the database")
        return state, encode_commit(pages, page_count, raw=raw, checksums=self._checksums, step=step)


def encode_commit(
    pages: dict[Pgno, bytes], page_count: int, *, raw: RawFile, checksums: PageChecksums, step: Step
) -> LogEntry:
    """Make the entry that takes a database from `previous` to the state with these pages; moves the checksums on."""
    first = pages.get(Pgno(1))
    if first is not None:
        pages[Pgno(1)] = normalise_page_one(first)
    ordered = sorted((pgno, data) for pgno, data in pages.items() if pgno <= page_count)
    old_count = checksums.page_count
    rolling = checksums.update([(pgno, page_checksum(pgno, data)) for pgno, data in ordered], page_count)
    raw.page_count = page_count
    header = LtxHeader(
        page_size=raw.page_size,
        commit=page_count,
        min_txid=step.txid,
        max_txid=step.txid,
        timestamp_ms=step.timestamp_ms,
        pre_apply_checksum=step.previous.checksum,
    )
    return LogEntry(
        epoch=step.epoch,
        min_txid=step.txid,
        max_txid=step.txid,
        pre_checksum=step.previous.checksum,
        post_checksum=Checksum(rolling),
        timestamp_ms=step.timestamp_ms,
        tables=step.tables,
        payload=encode_ltx(header, ordered, rolling, previous_commit=old_count),
    )


def checksum_of(pgno: Pgno, data: bytes) -> Checksum:
    """Give a page's checksum, page 1 normalised."""
    return page_checksum(pgno, normalise_page_one(data) if pgno == 1 else data)


def grown_pages(old_count: int, new_count: int, page_size: int) -> Iterator[Pgno]:
    """Name the pages by which a database has grown; the lock page is nobody's."""
    skip = lock_pgno(page_size)
    return (Pgno(number) for number in range(old_count + 1, new_count + 1) if number != skip)


def scan_pages(read: Callable[[Pgno], bytes], page_count: int, page_size: int) -> PageChecksums:
    """Give the checksums of all pages. About 3 us a page of 4 KiB."""
    skip = lock_pgno(page_size)
    found = PageChecksums()
    for number in range(1, page_count + 1):
        if number != skip:
            found.put(Pgno(number), checksum_of(Pgno(number), read(Pgno(number))))
    found.resize(page_count)
    return found
