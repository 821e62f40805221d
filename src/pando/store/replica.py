"""One database file that the applier keeps: its position, the checksum of every page, the write lock between applies.

The order of an apply is in `APPLIER.md`. Methods that take long are generators ("steps"): the caller runs other work
between two steps. Not here: messages, the loop, snapshots as files.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pando import limits
from pando.errors import ChecksumMismatch, CorruptionError, NotReady, PandoError, invariant
from pando.ltx import normalise_page_one, page_checksum
from pando.store.apply import LOG_GAP, Change, plan_change, rolling_after
from pando.store.checksums import PageChecksums
from pando.store.files import FileSystem, remove_if_possible
from pando.store.newfile import build_steps, move_into_place
from pando.store.pages import FILE_BUSY, CheckpointMode, PageFile
from pando.store.segments import LogEntry
from pando.store.steps import SLICE_BYTES, Steps, run_steps
from pando.types import EMPTY_CHECKSUM, NO_POSITION, TXID, Checksum, Pgno, Position, lock_pgno

if TYPE_CHECKING:
    from pando.store.positions import PositionTable


_OPENING_WAIT_S: Final = 1.0
"""How long opening waits for locks: readers that open at the same time hold some for a moment, to recover the WAL."""


class ReplicaState(StrEnum):
    """Whether entries can be applied. Only READY applies; all but OPENING and READY wait for a snapshot."""

    OPENING = "opening"
    READY = "ready"
    UNKNOWN = "unknown"
    DIVERGED = "diverged"
    FOREIGN = "foreign"


class EntrySource(Protocol):
    """What is needed of a log's reader (`pando.store.commitlog.LogReader`)."""

    @property
    def base(self) -> Position:
        """Position before the first entry."""
        ...

    @property
    def last(self) -> Position:
        """Position after the last entry."""
        ...

    def read(self, after: TXID, *, max_bytes: int, up_to: TXID | None = None) -> list[LogEntry]:
        """Entries after a TXID, none past `up_to`, at least one if there is one."""
        ...

    def find_checksum(self, checksum: Checksum) -> Position | None:
        """The newest position with this checksum."""
        ...

    def close(self) -> None:
        """Give descriptors back."""
        ...


@dataclass(frozen=True, slots=True)
class Publisher:
    """Where readers of the database learn its position."""

    table: PositionTable
    slot: int

    def about(self, txid: TXID, tables: tuple[str, ...] = ()) -> None:
        """Say that this commit may be seen from now on, and which tables it changes; none: any."""
        self.table.publish_tables(self.slot, txid, tables)
        self.table.publish_about(self.slot, txid)

    def visible(self, position: Position) -> None:
        """Say that this commit is seen from now on."""
        self.table.publish_visible(self.slot, position.epoch, position.txid, position.checksum)


def checksummed(pages: Iterable[tuple[int, bytes]], page_size: int) -> Iterator[tuple[Pgno, Checksum]]:
    """Give the checksum of each page as it is in a file: page 1 normalised, the lock page left out."""
    lock = lock_pgno(page_size)
    for number, data in pages:
        pgno = Pgno(number)
        if pgno == 1:
            data = normalise_page_one(data)
        if pgno != lock:
            yield pgno, page_checksum(pgno, data)


class Replica:
    """One open database of the applier. Raises PandoError; after a CorruptionError nothing more is applied."""

    def __init__(self, *, database: str, path: str, fs: FileSystem, publisher: Publisher | None) -> None:
        self.database = database
        self.path = path
        self.state = ReplicaState.OPENING
        self.position = NO_POSITION
        self.checksums = PageChecksums()
        self.file: PageFile | None = None
        self.in_hand: Sequence[LogEntry] = ()
        """Entries of an apply that failed, for the evidence."""
        self.unmoved_pages = 0
        """Pages written since the last checkpoint: about the frames of the WAL that are not in the file."""
        self._fs = fs
        self._publisher = publisher
        self._data_version = 0

    @property
    def page_size(self) -> int:
        """Page size of the file, 0 when there is none."""
        return self.file.page_size if self.file is not None else 0

    # -- opening --

    def open_steps(self) -> Steps:
        """Open the file, take the write lock, learn the checksum of every page. A missing or empty file is no pages."""
        path = Path(self.path)
        if not self._fs.exists(path) or (self._fs.stat(path).size == 0 and not self._has_wal()):
            return
        self.file = PageFile(self.path)
        self.file.wait_for_locks(_OPENING_WAIT_S)
        self._data_version = self.file.lock()
        self.file.wait_for_locks(0.0)
        yield from self.rescan_steps()

    def _has_wal(self) -> bool:
        wal = Path(self.path + "-wal")
        return self._fs.exists(wal) and self._fs.stat(wal).size > 0

    def rescan_steps(self) -> Generator[None, None, None]:
        """Compute all checksums anew from what is in the file; call while the write lock is held."""
        table = PageChecksums()
        yield from scan_steps(self._open_file(), table)
        self.checksums = table

    def start_at(self, position: Position) -> None:
        """Declare where the file is, and be ready to apply."""
        found = self.checksums.rolling
        invariant(found == position.checksum, "a file is at the position of its checksum", at=str(position))
        self.position = position
        self.state = ReplicaState.READY
        if self._publisher is not None:
            self._publisher.about(position.txid)
            self._publisher.visible(position)

    def _open_file(self) -> PageFile:
        if self.file is None:
            raise NotReady(f"database {self.database!r} has no file yet")
        return self.file

    # -- applying --

    def apply_next(self, log: EntrySource, target: TXID) -> Position:
        """Apply one entry of the log, or several in one transaction, none past `target`; gives the position reached.

        What the log holds past `target` may not be durable yet.
        """
        invariant(self.state is ReplicaState.READY, "only a ready replica applies", state=self.state)
        entries = log.read(self.position.txid, max_bytes=limits.SEND_BATCH_BYTES, up_to=target)
        if not entries:
            raise CorruptionError(f"the log has no entry after {self.position}, which was to be applied", code=LOG_GAP)
        self.in_hand = entries
        self.apply(plan_change(self.position, self.checksums.page_count, self.page_size, entries))
        self.in_hand = ()
        return self.position

    def apply(self, change: Change) -> None:
        """Make a change visible in one transaction, after its rolling checksum was found right."""
        if self.file is None:
            self._apply_to_nothing(change)
            return
        file = self.file
        invariant(file.is_locked, "an apply begins with the write lock", database=self.database)
        try:
            written = self._write(file, change)
            if self._publisher is not None:
                self._publisher.about(change.after.txid, change.tables)
            file.commit()
        except BaseException:
            self._take_back(file)
            raise
        self._note(change.after, written, change.page_count)
        self.relock()

    def _write(self, file: PageFile, change: Change) -> list[tuple[Pgno, Checksum]]:
        """Write the pages and give their checksums; raises ChecksumMismatch if the result is not the primary's."""
        written: list[tuple[Pgno, Checksum]] = []
        page_one: list[bytes] = []

        def pages() -> Iterator[tuple[int, bytes]]:
            for pgno, data in change.pages:
                written.append((pgno, page_checksum(pgno, data)))
                if pgno == 1:
                    page_one.append(data)
                else:
                    yield pgno, data

        file.write_pages(pages())
        check_rolling(rolling_after(self.checksums, written, change.page_count), change.after)
        shrinks = change.page_count < self.checksums.page_count
        file.finish_write(page_one[0] if page_one else None, change.page_count if shrinks else None)
        return written

    def _note(self, position: Position, written: Sequence[tuple[Pgno, Checksum]], page_count: int) -> None:
        self.checksums.update(written, page_count)
        self.position = position
        self.unmoved_pages += len(written) + 1
        if self._publisher is not None:
            self._publisher.visible(position)

    def _take_back(self, file: PageFile) -> None:
        """Undo a transaction that did not come to its end, and hold the lock again if possible."""
        file.roll_back()
        if self._publisher is not None:
            self._publisher.about(self.position.txid)
        self.relock()

    def _apply_to_nothing(self, change: Change) -> None:
        """The first commit of a database: its file is built beside and takes its name when it is whole."""
        invariant(self.checksums.page_count == 0, "a database without a file has no pages", database=self.database)
        if change.page_count == 0:
            check_rolling(EMPTY_CHECKSUM, change.after)
            self._note(change.after, (), 0)
            return
        table = PageChecksums()
        path = Path(self.path)
        built = run_steps(build_steps(self._fs, path, change.page_size, change.page_count, change.pages, table))
        self.take_new_file(built, table, change.after)

    def take_new_file(self, built: Path, table: PageChecksums, position: Position) -> None:
        """Put a file that was built beside in the place of ours and open it; raises ChecksumMismatch."""
        try:
            check_rolling(table.rolling, position)
        except ChecksumMismatch:
            remove_if_possible(self._fs, built)
            raise
        self.close_file()
        move_into_place(self._fs, built, Path(self.path))
        if self._publisher is not None:
            self._publisher.about(position.txid)
        if table.page_count:
            self.file = PageFile(self.path)
            self._data_version = self.file.lock()
        self.checksums = table
        self.start_at(position)

    # -- the lock --

    def relock(self) -> bool:
        """Take the write lock again, and look whether someone wrote meanwhile: then the state is FOREIGN.

        Gives False while another program holds the lock; call again later.
        """
        file = self.file
        if file is None or file.is_locked:
            return True
        try:
            version = file.lock()
        except NotReady:
            return False
        if version != self._data_version:
            self._data_version = version
            if self.state is ReplicaState.READY:
                self.state = ReplicaState.FOREIGN
        return True

    def require_lock(self) -> None:
        """Hold the write lock or raise NotReady (FILE_BUSY)."""
        if not self.relock():
            raise NotReady(f"another program holds the lock of {self.path}", code=FILE_BUSY)

    def write_differing_steps(self, change: Change) -> Generator[None, None, int]:
        """Write the pages that differ from what is in the file, in one transaction; gives how many were written.

        `checksums` must be those of the file as it is. For snapshots: all pages of the database, ascending.
        """
        file = self._open_file()
        table, fresh = self.checksums, PageChecksums()
        differing = 0
        page_one: bytes | None = None
        batch: list[tuple[int, bytes]] = []
        seen = 0
        try:
            for pgno, data in change.pages:
                checksum = page_checksum(pgno, data)
                fresh.put(pgno, checksum)
                seen += len(data)
                if pgno == 1:
                    page_one = data
                elif checksum != table.get(pgno):
                    batch.append((pgno, data))
                if seen >= SLICE_BYTES:
                    file.write_pages(batch)
                    differing += len(batch)
                    batch.clear()
                    seen = 0
                    yield
            file.write_pages(batch)
            differing += len(batch)
            fresh.resize(change.page_count)
            check_rolling(fresh.rolling, change.after)
            shrinks = change.page_count < table.page_count
            file.finish_write(page_one, change.page_count if shrinks else None)
            if self._publisher is not None:
                self._publisher.about(change.after.txid)
            file.commit()
        except BaseException:
            self._take_back(file)
            raise
        self.checksums = fresh
        self.unmoved_pages += differing + 2
        self.start_at(change.after)
        self.relock()
        return differing + 1

    # -- looking after the WAL --

    def checkpoint(self, mode: CheckpointMode = CheckpointMode.PASSIVE) -> None:
        """Move the WAL into the file; the write lock is given up only for that moment.

        All of the WAL is in the durable log, since entries are fsynced there before they are applied.
        """
        file = self.file
        if file is None or self.state is ReplicaState.OPENING:
            return
        file.release()
        try:
            result = file.checkpoint(mode)
            self.unmoved_pages = 0
            if result.wal_frames >= limits.WAL_PAGES_RESTART and mode is CheckpointMode.PASSIVE:
                file.checkpoint(CheckpointMode.TRUNCATE)
        finally:
            self.relock()

    def differing_pages(self, most: int, pages_max: int) -> list[Pgno]:
        """Name pages (at most `most`) of the first `pages_max` whose bytes are not those that were applied."""
        file = self._open_file()
        table = self.checksums
        found: list[Pgno] = []
        for pgno, checksum in checksummed(file.read_pages(), file.page_size):
            if checksum != table.get(pgno):
                found.append(pgno)
            if len(found) >= most or pgno >= pages_max:
                break
        return found

    def close_file(self) -> None:
        """Close the file and forget what is known of it."""
        file, self.file = self.file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close for good."""
        self.state = ReplicaState.OPENING
        self.close_file()


def scan_steps(file: PageFile, table: PageChecksums) -> Steps:
    """Put the checksum of every page of a file into `table`."""
    seen = 0
    pages = file.read_pages()
    try:
        for pgno, checksum in checksummed(pages, file.page_size):
            table.put(pgno, checksum)
            seen += file.page_size
            if seen >= SLICE_BYTES:
                seen = 0
                yield
    finally:
        pages.close()  # ends the read at once, also when the steps are given up
    table.resize(file.page_count())


def check_rolling(found: Checksum, wanted: Position) -> None:
    """Compare a rolling checksum with the one of a position; raises ChecksumMismatch."""
    if found != wanted.checksum:
        raise ChecksumMismatch(f"the pages give checksum {found:016x}, the position is {wanted}")


def is_transient(error: PandoError) -> bool:
    """Tell whether the same can succeed later without anything being replaced."""
    return not isinstance(error, CorruptionError) and (error.retryable or error.code.startswith("STORAGE"))
